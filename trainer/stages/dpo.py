"""Stage `dpo`: TRL's DPOTrainer from the SFT model (or the base), which is policy and reference.

The reference's log-probabilities are computed once, before training, so no second model stays in memory; with LoRA
the reference is the model with its adapter disabled.
"""

from __future__ import annotations

from pathlib import Path

from trainer.config.trl_fields import training_stages
from trainer.models.load import MODEL_DIR, base_model_path, load_model, load_tokenizer
from trainer.stages.context import StageContext
from trainer.stages.data import examples_dir
from trainer.staging import scratch_of


def run(context: StageContext) -> list[Path]:
    from trl import DPOTrainer

    from trainer.training import (  # heavy; the process that only starts ranks does without
        load_examples,
        peft_config,
        train_and_save,
        training_arguments,
    )

    precompute = context.config.model.lora is None
    args = training_arguments(context, precompute_ref_log_probs=precompute)  # first: under ZeRO-3 the model loads as shards
    source = base_model_path(context.config, context.run_dir)
    if "sft" in training_stages(context.config):
        source = str(context.run_dir / "sft" / MODEL_DIR)
    tokenizer = load_tokenizer(context.config.model, source)
    trainer = DPOTrainer(
        model=load_model(context.config.model, source, scratch=scratch_of(context.config)),
        args=args,
        train_dataset=load_examples(  # not staged: all ranks share TRL's reference cache
            examples_dir(context.config, context.run_dir, "dpo")
        ),
        processing_class=tokenizer,
        peft_config=peft_config(context),
    )
    return train_and_save(context, trainer, tokenizer, source)
