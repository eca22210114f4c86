"""Stage `sft`: TRL's SFTTrainer on the chosen responses; the loss counts response tokens only."""

from __future__ import annotations

from pathlib import Path

from trainer.models.load import base_model_path, load_model, load_tokenizer
from trainer.stages.context import StageContext
from trainer.staging import local_copy, scratch_of


def run(context: StageContext) -> list[Path]:
    from trl import SFTTrainer

    from trainer.training import (  # heavy; the process that only starts ranks does without
        load_examples,
        peft_config,
        train_and_save,
        training_arguments,
    )

    args = training_arguments(context)  # first: under ZeRO-3 it makes the model load as shards
    source = base_model_path(context.config, context.run_dir)
    tokenizer = load_tokenizer(context.config.model, source)
    scratch = scratch_of(context.config)
    examples = context.run_dir / "data" / "sft"
    trainer = SFTTrainer(
        model=load_model(context.config.model, source, scratch=scratch),
        args=args,
        train_dataset=load_examples(Path(local_copy(str(examples), scratch)) if scratch else examples),
        processing_class=tokenizer,
        peft_config=peft_config(context),
    )
    return train_and_save(context, trainer, tokenizer, source)
