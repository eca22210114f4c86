"""Stage `kto`: TRL's KTOTrainer from the base, which is policy and reference (arXiv 2402.01306; its loss is equation 7).

The reference's log-probabilities are computed once, before training, so no second model stays in memory; with LoRA
the reference is the model with its adapter disabled.
"""

from __future__ import annotations

from pathlib import Path

from trl import KTOTrainer

from trainer.methods.kto.stage_data import DATASET
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.training.examples import load_examples, load_validation
from trainer.training.loop import load_trained, peft_config, train_and_save, training_arguments


def run(context: StageContext) -> list[Path]:
    precompute = context.training.lora is None
    args = training_arguments(context, precompute_ref_log_probs=precompute)  # first: under ZeRO-3 the model loads as shards
    source, examples = context.base_model, context.run_dir / "data" / DATASET
    tokenizer = load_tokenizer(context.config.model, source)
    trainer = KTOTrainer(
        model=load_trained(context, source),
        args=args,
        train_dataset=load_examples(context, examples),  # not staged: all ranks share TRL's reference cache
        eval_dataset=load_validation(context, examples),
        processing_class=tokenizer,
        peft_config=peft_config(context),
    )
    return train_and_save(context, trainer, tokenizer, source)
