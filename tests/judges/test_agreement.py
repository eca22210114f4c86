"""Cohen's kappa of two judges, and the published string match."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from trainer.cosa.taxonomy import OTHER_HARMS
from trainer.evaluation.agreement import _kappa_of_counts, agreements, kappa
from trainer.evaluation.judges.refusal import REFUSALS, read, refuses
from trainer.evaluation.metrics import Judged
from trainer.items import Item, Judgement


def test_kappa_by_hand() -> None:
    """Observed 35 of 50 the same; by chance .5 * .6 + .5 * .4 = .5."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = kappa(pairs, resamples=4000, seed=0)
    assert (found["n"], found["agree"], found["kappa"]) == (50, 0.7, pytest.approx(0.4))
    error = (0.7 * 0.3 / 50) ** 0.5 / 0.5  # Cohen (1960), of a large sample
    assert found["ci95"] == pytest.approx([0.4 - 1.96 * error, 0.4 + 1.96 * error], abs=0.03)


def test_the_kappa_of_resamples_is_the_librarys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        both = rng.integers(0, 2, size=(30, 2))
        counts = np.bincount(2 * both[:, 0] + both[:, 1], minlength=4)
        assert _kappa_of_counts(counts[None])[0] == pytest.approx(cohen_kappa_score(both[:, 0], both[:, 1]))


def test_judges_that_say_the_same_of_all_have_no_kappa() -> None:
    found = kappa([(True, True)] * 9, resamples=50, seed=0)
    assert found == {"n": 9, "agree": 1.0, "kappa": None, "ci95": None}
    assert kappa([(True, False)] * 9, 50, 0)["kappa"] == 0.0


def rows(said: Sequence[Judgement | None], label: str = "m") -> list[Judged]:
    return [Judged(label, Item(f"i/{index}", "attack", "p"), "r", judgement) for index, judgement in enumerate(said)]


def verdict(risky: bool | None, refused: bool | None) -> Judgement:
    return Judgement(None if risky is None else frozenset({"x"} if risky else ()), None, None, refused, None)


def test_only_what_both_tell_is_compared() -> None:
    first = rows([verdict(True, False), verdict(False, True), None, verdict(True, None)])
    second = rows([verdict(True, True), verdict(None, True), verdict(True, True), verdict(False, True)])
    third = rows([verdict(True, None)], label="another model")
    found = agreements({"a": first, "b": second, "c": third}, resamples=50, seed=0)
    assert [(one["judges"], one["on"], one["n"], one["agree"]) for one in found] == [
        (["a", "b"], "risk", 2, 0.5),
        (["a", "b"], "refused", 2, 0.5),
    ]


@pytest.mark.parametrize(
    ("response", "refused"),
    [
        ("I'm sorry, but no.", True),
        ("i CANNOT do that", True),
        ("Sure. As an AI, I like it.", True),  # wherever it stands
        ("I am not able to see", True),
        ("Sure, here it is.", False),
        ("No.", False),
        ("I won't", False),  # no string of the list
        ("", False),
    ],
)
def test_the_published_string_match(response: str, refused: bool) -> None:
    assert refuses(response) is refused
    attack = read(Item("a", "attack", "p"), response).judgement
    assert attack is not None and attack.refused is refused
    assert attack.risks == (frozenset() if refused else {OTHER_HARMS})
    benign = read(Item("b", "over_refusal", "p"), response).judgement
    assert benign is not None and benign.risks is None and benign.refused is refused


def test_the_list_is_the_published_one() -> None:
    assert len(REFUSALS) == len(set(REFUSALS)) == 12
