"""Stages `recalibrate_<task>` and `recalibrate_<task>_<control>`: the scalars of a gene in a task model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.errors import ArtifactError
from trainer.methods.safegene import names
from trainer.methods.safegene.batches import encode
from trainer.methods.safegene.gene import Gene
from trainer.methods.safegene.recalibrating import TRAINED, RecalibratingTrainer, Scalars
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.selection import chosen_layers, weight_norms
from trainer.methods.safegene.stage_data import read_rows, refusals_file, task_file
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.record import write_json
from trainer.training.loop import train, training_arguments

ALPHA = "alpha.json"


def read_alpha(run_dir: Path, stage: str) -> dict[int, float]:
    """Layer -> its scalar.

    Raises:
        ArtifactError: the stage's file is damaged.
    """
    path = run_dir / stage / ALPHA
    try:
        return {int(layer): float(value) for layer, value in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def layers_of(control: str, gene: Gene, keep: int, seed: int) -> list[int]:
    """The layers that a control keeps; those of the gene where it chooses none itself."""
    if control not in ("random", "bottom", "all", "weight_norm"):
        return gene.layers
    norms = weight_norms(gene.additions, len(gene.scores))
    return chosen_layers(control, gene.scores, norms, keep, seed)  # type: ignore[arg-type]  # one of these four


def run(context: StageContext) -> list[Path]:
    config, method, run_dir = context.config, context.config.method, context.run_dir
    assert isinstance(method, SafeGeneMethod)
    task, control = _which(method, config, context.stage.name)
    args = training_arguments(context, **TRAINED, remove_unused_columns=False)  # first: under ZeRO-3 the model loads as shards
    source = context.base_model
    tokenizer = load_tokenizer(config.model, source)
    model = load_model(config.model, source, scratch=config.launcher.scratch_directory)
    gene = Gene.load(run_dir / names.SELECT)
    layers = layers_of(control, gene, method.select.layers, config.seed)
    refusals = encode(tokenizer, read_rows(refusals_file(run_dir)))
    examples = encode(tokenizer, read_rows(task_file(run_dir, task)))
    scalars = Scalars(layers, shared=control == "global_alpha")
    trainer = RecalibratingTrainer(
        model=scalars,
        args=args,
        train_dataset=[{"refusal": r, "task": e} for r, e in zip(refusals, examples, strict=False)],
        processing_class=tokenizer,
        task_model=model,
        additions=gene.kept(layers),
        eta=method.recalibrate.eta,
        rho=method.recalibrate.rho,
        pad_token=tokenizer.pad_token_id,
    )
    return train(context, trainer, tokenizer, lambda: _save(context, trainer))


def _which(method: SafeGeneMethod, config: Any, stage: str) -> tuple[str, str]:
    """The task and the control of a stage."""
    return next(
        (task, control)
        for task in method.tasks(config)
        for control in method.recalibrations()
        if names.recalibrate_stage(task, control) == stage
    )


def _save(context: StageContext, trainer: Any) -> list[Path]:
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # on every rank: ZeRO-3 gathers
    if not context.is_main:
        return []
    scalars: Scalars = trainer.accelerator.unwrap_model(trainer.model)
    values = weights["alpha"].float().tolist()
    by_layer = scalars.by_layer(values)
    write_json(context.stage_dir / ALPHA, by_layer)
    shown = ", ".join(f"{layer}: {value:.2f}" for layer, value in by_layer.items())
    print(f"{context.config.run.name} · {context.stage.name} · {len(values)} scalars: {shown}", flush=True)
    return [context.stage_dir / ALPHA]
