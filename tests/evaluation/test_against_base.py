"""What a model has gained in safety and paid in capability, against hand-computed values and a plain loop."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from trainer.evaluation.metrics import Judged, compare
from trainer.evaluation.statistics import macro_average, paired_interval
from trainer.items import Item, Judgement


def judged(label: str, harmful: Sequence[bool], right: Sequence[bool], sets: int = 1) -> list[Judged]:
    """A model's answers: attacks, the i-th from set i % sets, and capability tasks."""
    rows = []
    for index, risky in enumerate(harmful):
        item = Item(f"attack/{index}", "attack", "x", split=f"set{index % sets}")
        judgement = Judgement(frozenset({"harm"} if risky else ()), True, 5, False, False)
        rows.append(Judged(label, item, "x", judgement))
    for index, correct in enumerate(right):
        judgement = Judgement(frozenset(), True, 5, False, correct)
        rows.append(Judged(label, Item(f"task/{index}", "capability", "x"), "x", judgement))
    return rows


BASE = judged("base", ([True] * 6 + [False] * 4) * 4, ([True] * 8 + [False] * 2) * 4)


def test_safety_gain_and_alignment_tax_are_relative_to_the_base() -> None:
    aligned = judged("aligned", ([True] + [False] * 9) * 4, ([True] * 6 + [False] * 4) * 4)
    models = compare([*BASE, *aligned], resamples=200, seed=0)
    assert "safety_gain" not in models["base"]
    assert models["aligned"]["safety_gain"]["value"] == pytest.approx((0.9 - 0.4) / 0.4)
    assert models["aligned"]["alignment_tax"]["value"] == pytest.approx(1 - 0.6 / 0.8)
    for name in ("safety_gain", "alignment_tax"):
        low, high = models["aligned"][name]["ci95"]
        assert low < models["aligned"][name]["value"] < high and models["aligned"][name]["n"] == 40


def test_a_model_that_answers_as_the_base_gains_and_pays_nothing_beyond_doubt() -> None:
    same = [Judged("same", row.item, row.response, row.judgement) for row in BASE]
    metrics = compare([*BASE, *same], resamples=200, seed=0)["same"]
    assert [(metrics[name]["value"], metrics[name]["ci95"]) for name in ("safety_gain", "alignment_tax")] == [(0, [0, 0])] * 2


def test_sets_of_attacks_count_alike_however_large() -> None:
    base = judged("base", [True, False, True, False, True, False], [True, True], sets=2)  # set0 always, set1 never harmful
    metrics = compare([*base, *judged("m", [False] * 6, [True, True], sets=2)], resamples=50, seed=0)["m"]
    assert metrics["safety_gain"]["value"] == pytest.approx((1.0 - 0.5) / 0.5)


def test_answers_that_the_judge_did_not_understand_are_left_out_of_both() -> None:
    aligned = judged("aligned", [False] * 40, [True] * 40)
    aligned[0] = Judged("aligned", aligned[0].item, "x", None)
    gain = compare([*BASE, *aligned], resamples=50, seed=0)["aligned"]["safety_gain"]
    assert gain["n"] == 39 and gain["value"] == pytest.approx((1 - 16 / 39) / (16 / 39))


def test_nothing_is_relative_to_a_base_that_is_never_safe_or_not_there() -> None:
    unsafe = judged("base", [True] * 4, [True] * 4)
    metrics = compare([*unsafe, *judged("m", [False] * 4, [True] * 4)], resamples=50, seed=0)["m"]
    assert "safety_gain" not in metrics and "alignment_tax" in metrics
    assert "alignment_tax" not in compare(judged("m", [False] * 4, [True] * 4), resamples=50, seed=0)["m"]


def test_the_interval_is_that_of_a_loop_that_draws_prompts_with_both_their_values() -> None:
    draw = random.Random(0)
    first = {name: [float(draw.random() < 0.7) for _ in range(size)] for name, size in (("a", 60), ("b", 90))}
    second = {name: [float(value or draw.random() < 0.3) for value in values] for name, values in first.items()}

    def ratio() -> float:
        means = []
        for name, values in first.items():
            rows = [draw.randrange(len(values)) for _ in values]
            means.append([np.mean([column[name][row] for row in rows]) for column in (second, first)])
        top, bottom = np.mean(means, axis=0)
        return float(top / bottom)

    loop = np.quantile([ratio() for _ in range(3000)], [0.025, 0.975])
    interval = paired_interval(second, first, lambda a, b: a / b, resamples=3000, seed=0)
    assert interval is not None and interval == pytest.approx(tuple(loop), abs=0.015)
    assert interval[0] < macro_average(second) / macro_average(first) < interval[1]
    assert paired_interval(second, {name: [0.0] * len(v) for name, v in first.items()}, lambda a, b: a / b, 50, 0) is None
    assert paired_interval({"one": [1.0]}, {"one": [1.0]}, lambda a, b: a / b, 50, 0) is None


def test_there_is_no_gain_over_a_base_that_was_not_asked_the_same() -> None:
    """As where a suite among several names the models that it asks."""
    aligned = judged("aligned", [False] * 12, [True] * 4)
    models = compare([*judged("base", [True] * 8, [True] * 4), *aligned], resamples=50, seed=0)
    assert models["aligned"]["asr"]["n"] == 12 and not {"safety_gain", "alignment_tax"} & models["aligned"].keys()
