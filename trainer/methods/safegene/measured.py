"""What a run of SafeGene adds to its results: means over the tasks, what each method costs per task, and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.evaluation.metrics import Metrics
from trainer.evaluation.statistics import macro_average, macro_interval
from trainer.methods.safegene import names
from trainer.methods.safegene.picture import draw_methods
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.stage_recalibrate import ALPHA
from trainer.pipeline.context import StageContext
from trainer.pipeline.manifest import read_manifest
from trainer.pipeline.places import RESPONSES

PICTURE = "methods.png"
# Metric -> the suite it is of, and what of a response counts.
_COUNTED = {"asr": ("attack", "risks"), "over_refusal": ("over_refusal", "refused"), "task_accuracy": ("task", "correct")}


def measure(context: StageContext, scores: dict[str, Metrics]) -> dict[str, Path]:
    """Adds the models `mean/<method>`, of task models alone, and `seconds` and `trained_scalars` to what trains for every task;
    draws attack success against task accuracy."""
    config, method, out = context.config, context.config.method, context.stage_dir
    assert isinstance(method, SafeGeneMethod) and config.evaluation is not None  # the stage exists only where it is set
    tasks = [task for task in method.tasks(config) if names.label(task, names.NONE) in scores]
    rows = [label.partition("/")[2] for label in scores if label.startswith(f"{tasks[0]}/")] if tasks else []
    values = _values(out / RESPONSES) if rows else {}
    for row in rows:
        of_tasks = [names.label(task, row) for task in tasks]
        found: Metrics = {}
        for metric in _COUNTED:
            groups = {label: values[label][metric] for label in of_tasks if values.get(label, {}).get(metric)}
            if len(groups) == len(tasks):
                interval = macro_interval(groups, config.evaluation.resamples, config.seed)
                found[metric] = {
                    "value": macro_average(groups),
                    "ci95": None if interval is None else list(interval),
                    "n": sum(map(len, groups.values())),
                }
        scores[names.label(names.MEAN, row)] = found
    for task in tasks:
        _add_costs(context.run_dir, task, scores)
    points = {
        row: (scores[name]["asr"]["value"], scores[name]["task_accuracy"]["value"])
        for row in rows
        if {"asr", "task_accuracy"} <= scores[name := names.label(names.MEAN, row)].keys()
    }
    if not points:
        return {}
    draw_methods(points, names.OWN, out / PICTURE)
    return {"methods": out / PICTURE}


def _values(path: Path) -> dict[str, dict[str, list[float]]]:
    """Model -> metric -> one value per response that could be judged."""
    found: dict[str, dict[str, list[float]]] = {}
    for line in path.open():
        row = json.loads(line)
        for metric, (suite, field) in _COUNTED.items():
            if row["suite"] == suite and row["valid"]:
                found.setdefault(row["model"], {}).setdefault(metric, []).append(float(bool(row[field])))
    return found


def _add_costs(run_dir: Path, task: str, scores: dict[str, Metrics]) -> None:
    """What it costs to make one task model safe: recalibration, safety fine-tuning, or distilling a gene for it alone."""
    stages = {
        names.OWN: names.recalibrate_stage(task),
        "safety_tuning": names.tuned_stage(task),
        **{control: names.recalibrate_stage(task, control) for control in names.RECALIBRATED},
    }
    for row, stage in stages.items():
        manifest, label = read_manifest(run_dir / stage), names.label(task, row)
        if manifest is None or label not in scores:
            continue
        scores[label]["seconds"] = _plain(manifest.seconds)
        if (alpha := run_dir / stage / ALPHA).exists():
            known: dict[str, Any] = json.loads(alpha.read_text())
            scores[label]["trained_scalars"] = _plain(1 if row == "global_alpha" else len(known))
    gene = read_manifest(run_dir / names.GENE)
    if gene is not None and (own := names.label(task, names.OWN)) in scores:
        scores[own]["seconds_of_the_gene"] = _plain(gene.seconds)


def _plain(value: float) -> dict[str, Any]:
    return {"value": float(value), "ci95": None, "n": 1}
