"""The picture of safety against capability."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from tests.compare.fabricated import comparison
from trainer.compare.comparison import Comparison
from trainer.compare.picture import draw_pareto, staircase


@pytest.mark.parametrize("settings", [1, 6, 25])
def test_it_is_drawn_for_any_number_of_rows(settings: int, tmp_path: Path) -> None:
    given = comparison(settings=settings)
    draw_pareto(given, given.paretos[0], tmp_path / "safety.png")
    pixels = imread(tmp_path / "safety.png")
    assert pixels.shape[0] > 500 and pixels.shape[1] > 700
    assert (pixels[..., :3].min(axis=-1) < 0.9).sum() > 2000  # something is on it


def test_intervals_that_are_missing_or_beside_the_value_are_no_reason_to_fail(tmp_path: Path) -> None:
    given = comparison(settings=3)
    cells = [replace(cell, low=None, high=None) for cell in given.cells[: len(given.cells) // 2]]
    cells += [replace(cell, low=(cell.value or 0) + 0.1) for cell in given.cells[len(cells) :]]
    draw_pareto(replace(given, cells=cells), given.paretos[0], tmp_path / "safety.png")
    assert (tmp_path / "safety.png").stat().st_size > 5000


def _stairs(given: Comparison, across: str, up: str, places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    metrics = {metric.name: metric for metric in given.metrics}
    point = given.paretos[0].points[0]
    front = [replace(point, capability=x, safety=y) for x, y in places]
    return list(zip(*staircase(front, metrics[across], metrics[up]), strict=True))


def test_the_line_turns_where_both_metrics_are_worse() -> None:
    given = comparison()
    capability, safety, asr = "capability/accuracy", "safety/score", "safety/asr"
    assert _stairs(given, capability, safety, [(1, 3), (2, 2)]) == [(1, 3), (1, 2), (2, 2)]
    assert _stairs(given, capability, asr, [(1, 2), (2, 3)]) == [(1, 2), (1, 3), (2, 3)]
    assert _stairs(given, asr, safety, [(1, 2), (2, 3)]) == [(1, 2), (2, 2), (2, 3)]
    assert _stairs(given, capability, safety, []) == []
