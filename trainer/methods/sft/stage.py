"""Stage `sft`: TRL's SFTTrainer on the chosen responses; the loss counts response tokens only."""

from __future__ import annotations

from pathlib import Path

from trl import SFTTrainer

from trainer.methods.pairs.stage import examples_dir
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.training.examples import load_examples, load_validation
from trainer.training.loop import load_trained, peft_config, train_and_save, training_arguments


def run(context: StageContext) -> list[Path]:
    args = training_arguments(context)  # first: under ZeRO-3 it makes the model load as shards
    source = context.base_model
    tokenizer = load_tokenizer(context.config.model, source)
    scratch, examples = context.config.launcher.scratch_directory, examples_dir(context, "sft")
    trainer = SFTTrainer(
        model=load_trained(context, source),
        args=args,
        train_dataset=load_examples(context, examples, scratch),
        eval_dataset=load_validation(context, examples, scratch),
        processing_class=tokenizer,
        peft_config=peft_config(context),
    )
    return train_and_save(context, trainer, tokenizer, source)
