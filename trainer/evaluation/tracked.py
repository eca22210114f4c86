"""What of an evaluation goes to the tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.evaluation.metrics import Judged
from trainer.tracking.tracker import Tracker
from trainer.vocabulary import name_of


def track(tracker: Tracker, results: dict[str, Any], path: Path, judged: Sequence[Judged], sample_rows: int) -> None:
    """The summary is the run's own model, in the words of the vocabulary, so that the axes of W&B span methods; the file of the
    results has all models. A table has every model's answer to the same sample of prompts."""
    own = results["roles"]["own"]
    if own is not None:
        measured = results["models"][own] | results["costs"][own]
        values = {name_of(name): metric["value"] for name, metric in measured.items() if metric["value"] is not None}
        tracker.summary({"model": own, **values})
    tracker.file(path)
    if not judged:
        return
    ids = list(dict.fromkeys(row.item.id for row in judged))
    chosen = set(ids[:: max(1, len(ids) // sample_rows)][:sample_rows] if sample_rows else [])
    rows = [[*_told(row), row.response] for row in judged if row.item.id in chosen]
    tracker.table("responses", ["prompt", "safety config", "situation", "model", "verdict", "response"], rows)


def _told(row: Judged) -> list[str]:
    """prompt, safety config, situation, model, verdict."""
    judgement, verdict = row.judgement, "not understood"
    if judgement is not None:
        words = ["refused"] if judgement.refused else []
        words += ["correct" if judgement.correct else "wrong"] if row.item.suite in ("capability", "task") else []
        words += [] if judgement.risks is None else sorted(judgement.risks) or ["no risk"]
        verdict = ", ".join(words)
    return [row.item.prompt, row.item.safety_config, row.item.situation, row.label, verdict]
