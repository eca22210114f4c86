"""Stages `merge_<task>`: a task model with its gene, as a model that costs nothing more, or as a PEFT adapter beside it."""

from __future__ import annotations

from pathlib import Path

from trainer.methods.safegene import names
from trainer.methods.safegene.contenders import expressing
from trainer.methods.safegene.gene import Gene, save_expressed
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.stage_gene import ADAPTER
from trainer.methods.safegene.stage_recalibrate import read_alpha
from trainer.models.load import load_model, load_tokenizer
from trainer.models.save import save_model
from trainer.models.weights import Weights, other_weights
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR


def run(context: StageContext) -> list[Path]:
    return context.together(lambda: _write(context))


def _write(context: StageContext) -> list[Path]:
    config, method, run_dir = context.config, context.config.method, context.run_dir
    assert isinstance(method, SafeGeneMethod)
    task = next(task for task in method.tasks(config) if names.merge_stage(task) == context.stage.name)
    source = run_dir / names.task_stage(task) / MODEL_DIR
    gene, alpha = Gene.load(run_dir / names.SELECT), read_alpha(run_dir, names.recalibrate_stage(task))
    tokenizer = load_tokenizer(config.model, str(source))
    model = load_model(config.model, str(source), config.model.save_dtype)
    gene.check(model, tokenizer)
    kept = gene.kept(list(alpha))
    if not method.merge:
        return save_expressed(run_dir / names.SELECT, kept, alpha, context.stage_dir / ADAPTER)
    with other_weights(model, Weights(source), expressing(kept, alpha)):
        return save_model(model, tokenizer, context.stage_dir / MODEL_DIR)
