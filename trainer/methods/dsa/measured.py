"""What the guardrails of a run are worth: ROC AUC on every test set, what they flag at their threshold, and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config.run import RunConfig
from trainer.errors import ArtifactError
from trainer.evaluation.metrics import Metrics
from trainer.methods.dsa.examples import LABELS
from trainer.methods.dsa.measure import auc, rates
from trainer.methods.dsa.names import TRAIN, VALIDATION
from trainer.methods.dsa.picture import draw_guardrails
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.dsa.stage_guardrail import REPORT, read_probabilities
from trainer.methods.dsa.strengths import draw_alignment
from trainer.pipeline.context import StageContext


def measure(context: StageContext, scores: dict[str, Metrics]) -> dict[str, Path]:
    """Adds the metrics of the guardrails to those of the base that they read, and draws pictures, which it returns by name."""
    config, out = context.config, context.stage_dir
    assert config.evaluation is not None  # the stage exists only where it is set
    found, drawn = measure_guardrails(config, context.run_dir, out, config.evaluation.resamples)
    if found:
        scores["base"] = scores.get("base", {}) | found
    pictures = {f"guardrails/{name}": path for name, path in drawn.items()}
    if (curve := draw_alignment(scores, out)) is not None:
        pictures["alignment/strengths"] = curve
    return pictures


def measure_guardrails(config: RunConfig, run_dir: Path, out: Path, resamples: int) -> tuple[Metrics, dict[str, Path]]:
    """`guardrail_auc/<guardrail>/<set>`, and at the threshold tau `guardrail_tpr/...` and `guardrail_fpr/...`, the shares of
    unsafe and of safe texts that are flagged. A set with labels of prompts and of responses counts as two, <set>_prompt and
    <set>_response; tau belongs to the first label that was trained, and only sets of that label have rates.

    Args:
        out: where pictures are drawn, one per set.

    Returns:
        the metrics, and the picture of each set.
    """
    method = config.method
    assert isinstance(method, DsaMethod)
    stages = method.probabilities(config)
    said = {guardrail: read_probabilities(run_dir, stage) for guardrail, stage in stages.items()}
    reports = {guardrail: _report(run_dir / stage / REPORT) for guardrail, stage in stages.items()}
    metrics: Metrics = {}
    pictures: dict[str, Path] = {}
    if not said:
        return metrics, pictures
    for of_set, label, name in _test_sets(next(iter(said.values()))):
        rows = {guardrail: _rows(lines, of_set, label) for guardrail, lines in said.items()}
        taus = {guardrail: report["tau"] for guardrail, report in reports.items() if report["labels"][0] == label}
        for guardrail, (known, p) in rows.items():
            metrics[f"guardrail_auc/{guardrail}/{name}"] = auc(known, p, resamples, config.seed)
            if guardrail in taus:
                at_tau = rates(known, p, taus[guardrail], resamples, config.seed)
                metrics[f"guardrail_tpr/{guardrail}/{name}"] = at_tau["true_positive_rate"]
                metrics[f"guardrail_fpr/{guardrail}/{name}"] = at_tau["false_positive_rate"]
        pictures[name] = out / f"guardrails_{name}.png"
        labels = next(iter(rows.values()))[0]
        draw_guardrails(labels, {guardrail: p for guardrail, (_, p) in rows.items()}, taus, pictures[name])
    return metrics, pictures


def _report(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error
    return report


def _test_sets(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(set, label, name in the metrics), in the order of the sets."""
    known: dict[str, set[str]] = {}
    for line in lines:
        if line["set"] not in (TRAIN, VALIDATION):
            known.setdefault(line["set"], set()).update(line["labels"])
    return [
        (of_set, label, of_set if len(labels) == 1 else f"{of_set}_{label}")
        for of_set, labels in known.items()
        for label in LABELS
        if label in labels
    ]


def _rows(lines: Sequence[Mapping[str, Any]], of_set: str, label: str) -> tuple[list[int], list[float]]:
    """Labels and probabilities."""
    chosen = [line for line in lines if line["set"] == of_set and label in line["labels"]]
    return [line["labels"][label] for line in chosen], [line["p"][label] for line in chosen]
