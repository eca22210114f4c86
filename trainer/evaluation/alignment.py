"""The trade-off between safety and capability that an aligner's strength chooses, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.evaluation.items import DSA_STRENGTH
from trainer.evaluation.metrics import Metrics


def draw_alignment(models: Mapping[str, Metrics], out: Path) -> Path | None:
    """`strengths.png`: every strength of the aligner on a line, and the other models beside it. Safety is 1 - asr.

    Returns:
        its path; None where no strength was measured for both safety and capability.
    """
    from trainer.methods.dsa.picture import draw_strengths

    points = {
        label: (metrics["capability"], _safety(metrics["asr"]))
        for label, metrics in models.items()
        if "asr" in metrics and "capability" in metrics
    }
    curve = {float(label.removeprefix(DSA_STRENGTH)): at for label, at in points.items() if label.startswith(DSA_STRENGTH)}
    if not curve:
        return None
    others = {label: at for label, at in points.items() if not label.startswith(DSA_STRENGTH)}
    draw_strengths(curve, others, path := out / "strengths.png")
    return path


def _safety(asr: Mapping[str, Any]) -> dict[str, Any]:
    ends = asr["ci95"]
    return {**asr, "value": 1 - asr["value"], "ci95": None if ends is None else [1 - ends[1], 1 - ends[0]]}
