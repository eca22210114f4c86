"""Names of results: every metric that the code writes has one, and no two share it."""

from __future__ import annotations

import pytest

from trainer.vocabulary import MEASURES, measure_of, name_of, order_of


@pytest.mark.parametrize(
    ("within", "name", "direction"),
    [
        ("asr", "safety/asr", "down"),
        ("asr/jailbreak", "safety/asr/jailbreak", "down"),
        ("cosa_score/seen", "cosa/score/seen", "up"),
        ("cosa_score/config/drugs", "cosa/score/config/drugs", "up"),
        ("cosa_score_attainable/seen", "cosa/attainable/seen", ""),
        ("capability", "capability/accuracy", "up"),
        ("task_accuracy", "capability/task", "up"),
        ("gpu_hours", "cost/gpu_hours", "down"),
        ("a_metric_of_theirs/x", "a_metric_of_theirs/x", ""),
    ],
)
def test_a_metric_has_a_name_that_no_method_owns(within: str, name: str, direction: str) -> None:
    assert name_of(within) == name
    measure = measure_of(name)
    assert (measure.name, measure.direction) == (name, direction) and measure.title


def test_names_are_told_apart_both_ways() -> None:
    assert len({one.name for one in MEASURES}) == len({one.within for one in MEASURES}) == len(MEASURES)
    assert not [one for one in MEASURES for other in MEASURES if one.name.startswith(f"{other.name}/")]


def test_details_are_no_headlines_but_for_the_two_splits() -> None:
    names = ["safety/asr", "safety/asr/x", "cosa/score/seen", "cosa/score/set/unseen", "cosa/score/config/none"]
    assert [name for name in names if measure_of(name).headline] == ["safety/asr", "cosa/score/seen", "cosa/score/set/unseen"]
    assert sorted(["unknown", "cost/tokens", "safety/asr"], key=order_of) == ["safety/asr", "cost/tokens", "unknown"]
