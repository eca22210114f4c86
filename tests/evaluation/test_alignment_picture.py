"""What the picture of strengths is drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.methods.dsa import strengths
from trainer.methods.dsa.strengths import draw_alignment


def metric(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high], "n": 10}


def test_safety_is_what_attacks_leave_and_strengths_are_told_from_other_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(strengths, "draw_strengths", lambda *given: drawn.append(given))
    measured = {"asr": metric(0.2, 0.1, 0.4), "capability": metric(0.9, 0.8, 0.95)}
    assert draw_alignment({"base": measured, "dsa_lambda_0.5": measured, "sft": {}}, tmp_path) == tmp_path / "strengths.png"
    curve, others, _ = drawn[0]
    capability, safety = curve[0.5]
    assert capability == measured["capability"] and others == {"base": curve[0.5]}
    assert (safety["value"], safety["ci95"]) == (pytest.approx(0.8), pytest.approx([0.6, 0.9]))
    assert draw_alignment({"base": measured}, tmp_path) is None
