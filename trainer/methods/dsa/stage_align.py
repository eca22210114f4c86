"""Stage `dpo_aligner`: an aligner of the frozen base, trained by preferences with the base as its reference."""

from __future__ import annotations

from pathlib import Path

from trainer.config.schema import DsaMethod
from trainer.methods.dsa.config import AdapterConfig
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import base_model_path, load_model, load_tokenizer
from trainer.stages.context import StageContext
from trainer.stages.data import examples_dir
from trainer.staging import scratch_of

ALIGNER_STAGE = "dpo_aligner"


def run(context: StageContext) -> list[Path]:
    """Writes the aligner (`artifact.save`); the fields are those of the `dpo` section."""
    from transformers import set_seed

    from trainer.methods.dsa.dpo import AlignerDPOTrainer
    from trainer.methods.dsa.factory import make_aligner
    from trainer.training import load_examples, train, training_arguments

    config, run_dir, method = context.config, context.run_dir, context.config.method
    assert isinstance(method, DsaMethod) and method.aligner is not None
    args = training_arguments(context)  # first: under ZeRO-3 it makes models load as shards
    source = base_model_path(config, run_dir)
    tokenizer = load_tokenizer(config.model, source)
    base = load_model(config.model, source, scratch=scratch_of(config))
    set_seed(config.seed)  # of the fresh weights
    aligner = make_aligner(AdapterConfig.of(method.aligner), base)
    trainer = AlignerDPOTrainer(
        base,
        aligner.float(),  # bfloat16 weights would lose small updates; DeepSpeed keeps float32 copies of its own
        base_fingerprint(source),
        args,
        train_dataset=load_examples(examples_dir(config, run_dir, "dpo")),
        processing_class=tokenizer,
    )
    return train(context, trainer, tokenizer, lambda: trainer.save_aligner(context.stage_dir))
