"""The trade-off between safety and capability that an aligner's strength chooses, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.evaluation.metrics import Metrics
from trainer.methods.dsa.names import strength_of
from trainer.methods.dsa.picture import draw_strengths


def draw_alignment(models: Mapping[str, Metrics], out: Path) -> Path | None:
    """`strengths.png`: every strength of the aligner on a line, and the other models beside it. Safety is 1 - asr.

    Returns:
        its path; None where no strength was measured for both safety and capability.
    """
    points = {
        label: (metrics["capability"], _safety(metrics["asr"]))
        for label, metrics in models.items()
        if all(metrics.get(name, {}).get("value") is not None for name in ("asr", "capability"))
    }
    curve = {strength: at for label, at in points.items() if (strength := strength_of(label)) is not None}
    if not curve:
        return None
    others = {label: at for label, at in points.items() if strength_of(label) is None}
    draw_strengths(curve, others, path := out / "strengths.png")
    return path


def _safety(asr: Mapping[str, Any]) -> dict[str, Any]:
    ends = asr["ci95"]
    return {**asr, "value": 1 - asr["value"], "ci95": None if ends is None else [1 - ends[1], 1 - ends[0]]}
