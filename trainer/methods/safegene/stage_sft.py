"""Every stage of SafeGene that is supervised fine-tuning: alignment, degradation, tasks, safety, and SaLoRA's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import SFTTrainer

from trainer.methods.safegene import names
from trainer.methods.safegene.salora import BASES, SaloraTrainer
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.training.examples import load_examples
from trainer.training.loop import load_trained, peft_config, train_and_save, training_arguments


def run(context: StageContext) -> list[Path]:
    config = context.config
    args = training_arguments(context)  # first: under ZeRO-3 it makes the model load as shards
    source = context.base_model
    tokenizer = load_tokenizer(config.model, source)
    given: dict[str, Any] = {
        "model": load_trained(context, source),
        "args": args,
        "train_dataset": load_examples(context, context.run_dir / "data" / _dataset(context)),
        "processing_class": tokenizer,
        "peft_config": peft_config(context),
    }
    if context.training.variant == "salora":
        trainer: SFTTrainer = SaloraTrainer(**given, bases=context.run_dir / names.DIRECTIONS / BASES)
    else:
        trainer = SFTTrainer(**given)
    return train_and_save(context, trainer, tokenizer, source)


def _dataset(context: StageContext) -> str:
    """The stage's own, or for SaLoRA that of its task."""
    method = context.config.method
    assert isinstance(method, SafeGeneMethod)
    of_tasks = {names.salora_stage(task): names.task_stage(task) for task in method.tasks(context.config)}
    return of_tasks.get(context.stage.name, context.stage.name)
