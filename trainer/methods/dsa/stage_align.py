"""Stage `dpo_aligner`: an aligner of the frozen base, trained by preferences with the base as its reference."""

from __future__ import annotations

from pathlib import Path

from transformers import set_seed

from trainer.methods.dsa.dpo import AlignerDPOTrainer
from trainer.methods.dsa.factory import make_aligner
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.pairs.stage import examples_dir
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.training.examples import load_examples, load_validation
from trainer.training.loop import train, training_arguments


def run(context: StageContext) -> list[Path]:
    """Writes the aligner (`artifact.save`); the fields are those of the `dpo` section."""
    config, method = context.config, context.config.method
    assert isinstance(method, DsaMethod) and method.aligner is not None
    args = training_arguments(context)  # first: under ZeRO-3 it makes models load as shards
    source, examples = context.base_model, examples_dir(context, "dpo")
    tokenizer = load_tokenizer(config.model, source)
    base = load_model(config.model, source, scratch=config.launcher.scratch_directory)
    set_seed(config.seed)  # of the fresh weights
    aligner = make_aligner(method.aligner, base)
    trainer = AlignerDPOTrainer(
        base,
        aligner.float(),  # bfloat16 weights would lose small updates; DeepSpeed keeps float32 copies of its own
        context.together(lambda: base_fingerprint(source)),
        args,
        train_dataset=load_examples(context, examples),
        eval_dataset=load_validation(context, examples),
        processing_class=tokenizer,
    )
    return train(context, trainer, tokenizer, lambda: trainer.save_aligner(context.stage_dir))
