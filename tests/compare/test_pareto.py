"""Fronts, knees and areas that can be drawn by hand."""

from __future__ import annotations

import pytest

from trainer.compare.pareto import hypervolume, pareto


def test_less_attack_success_and_more_capability_are_better() -> None:
    found = pareto("safety/asr", "capability/accuracy", {"a": (0.5, 0.9), "b": (0.1, 0.5), "c": (0.5, 0.8), "d": (0.2, 0.85)})
    assert {point.row for point in found.points if point.dominated} == {"c"}
    assert [point.row for point in found.points if point.knee] == ["d"]
    # (1 - asr, capability): d adds to a's area 0.3 x 0.85, b another 0.1 x 0.5
    assert found.hypervolume == pytest.approx(0.5 * 0.9 + 0.3 * 0.85 + 0.1 * 0.5)


def test_more_of_a_score_is_better_and_its_worst_is_minus_one() -> None:
    found = pareto("cosa/score/unseen", "capability/accuracy", {"a": (0.5, 1.0), "b": (-1.0, 1.0)})
    assert [point.dominated for point in found.points] == [False, True]
    assert found.hypervolume == pytest.approx(1.5)


def test_equal_points_beat_neither_and_count_once() -> None:
    found = pareto("safety/asr", "capability/accuracy", {"a": (0.5, 0.5), "b": (0.5, 0.5)})
    assert not any(point.dominated or point.knee for point in found.points)
    assert found.hypervolume == pytest.approx(0.25)


def test_a_front_that_does_not_bulge_has_no_knee() -> None:
    straight = {"a": (1.0, 1.0), "b": (0.5, 0.5), "c": (0.0, 0.0)}
    assert not any(point.knee for point in pareto("safety/asr", "capability/accuracy", straight).points)
    hollow = {"a": (1.0, 1.0), "b": (0.7, 0.2), "c": (0.0, 0.0)}
    assert not any(point.knee for point in pareto("safety/asr", "capability/accuracy", hollow).points)


def test_no_point_has_no_area() -> None:
    assert hypervolume([]) == 0
