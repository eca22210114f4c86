"""Stages `gene` and `gene_on_aligned`: a LoRA on the frozen degraded model (or the aligned one) learns what the aligned one
does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import get_peft_model

from trainer.methods.safegene.batches import encode
from trainer.methods.safegene.distilling import DistillingTrainer
from trainer.methods.safegene.names import DEGRADE, GENE
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.stage_measure import aligned_path, read_answers
from trainer.models.load import load_model, load_tokenizer
from trainer.models.low_rank import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_adapter
from trainer.pipeline.context import StageContext
from trainer.training.loop import load_trained, peft_config, train, training_arguments

ADAPTER = "adapter"


def run(context: StageContext) -> list[Path]:
    """
    Raises:
        DataError: the chat template does not suit a conversation.
    """
    config, method, run_dir = context.config, context.config.method, context.run_dir
    assert isinstance(method, SafeGeneMethod)
    args = training_arguments(context, remove_unused_columns=False)  # first: under ZeRO-3 models load as shards
    source = context.base_model
    tokenizer = load_tokenizer(config.model, source)
    scratch = config.launcher.scratch_directory
    from_degraded = context.stage.name == GENE
    second = from_degraded and method.degrade.lora is None
    trainer = DistillingTrainer(
        model=get_peft_model(load_trained(context, source), peft_config(context)),
        args=args,
        train_dataset=encode(tokenizer, read_answers(run_dir)),
        processing_class=tokenizer,
        mu=method.gene.mu,
        degradation=read_adapter(run_dir / DEGRADE / ADAPTER) if from_degraded and not second else {},
        teacher=load_model(config.model, aligned_path(config, run_dir), scratch=scratch) if second else None,
    )
    with trainer.degraded():
        return train(context, trainer, tokenizer, lambda: _save(context, trainer))


def _save(context: StageContext, trainer: Any) -> list[Path]:
    """The adapter, whole."""
    target = context.stage_dir / ADAPTER
    trainer.save_model(str(target))
    (target / "training_args.bin").unlink(missing_ok=True)  # a pickle
    return [target / ADAPTER_WEIGHTS, target / ADAPTER_CONFIG] if context.is_main else []
