"""Stages `student` and `student_<ablation>`: the student learns from the steered teacher on its own samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset

from trainer.methods.safesteer.safety_tokens import SafetyTokens, random_tokens, special_tokens
from trainer.methods.safesteer.section import ABLATIONS, SafeSteerMethod
from trainer.methods.safesteer.stage_prompts import PromptSets
from trainer.methods.safesteer.stage_teacher import read_refusal_tokens
from trainer.methods.safesteer.teacher import Teacher
from trainer.methods.safesteer.trainer import SafeSteerTrainer
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.training.loop import load_trained, peft_config, train_and_save, training_arguments


def run(context: StageContext) -> list[Path]:
    config, run_dir, method = context.config, context.run_dir, context.config.method
    training = context.training
    assert isinstance(method, SafeSteerMethod)
    args = training_arguments(context)  # first: under ZeRO-3 it makes models load as shards
    source = context.base_model
    fingerprint = context.together(lambda: base_fingerprint(source))
    tokenizer = load_tokenizer(config.model, source)
    prompts = PromptSets.of_run(run_dir)
    tokens = SafetyTokens.load(run_dir / "tokens", fingerprint).ids
    model = load_trained(context, source)
    if training.variant in ABLATIONS and ABLATIONS[training.variant].random_tokens:
        vocabulary = model.config.get_text_config().vocab_size
        tokens = random_tokens(vocabulary, len(tokens), special_tokens(tokenizer), config.seed)
    copy = load_model(config.model, source, scratch=config.launcher.scratch_directory) if method.teacher == "copy" else None
    trainer = SafeSteerTrainer(
        model=model,
        teacher_model=copy,
        args=args,
        train_dataset=Dataset.from_list(_rows(prompts.training, method.rollouts)),
        processing_class=tokenizer,
        peft_config=peft_config(context),
        teacher=Teacher.of_run(config, run_dir, fingerprint),
        safety_tokens=tokens,
        kind=method.loss_of(training),
        rollouts=method.rollouts,
        probes=prompts.validation_harmless,
        refusal_tokens=read_refusal_tokens(run_dir).ids,
    )
    return train_and_save(context, trainer, tokenizer, source)


def _rows(prompts: list[str], rollouts: int) -> list[dict[str, Any]]:
    """A row for every sample, a prompt's one after another."""
    return [
        {"prompt": [{"role": "user", "content": prompt}], "index": index, "rollout": rollout}
        for index, prompt in enumerate(prompts)
        for rollout in range(rollouts)
    ]
