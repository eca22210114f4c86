"""Tests and intervals against values worked out by hand, and against scipy where it has the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from trainer.compare.statistics import holm, mcnemar, over_seeds, paired_bootstrap, t_interval


def test_mcnemar_counts_the_prompts_on_which_the_models_differ() -> None:
    a = [True] * 6 + [False] * 4
    b = [False] * 5 + [True] + [False] * 4  # five changed one way, none the other
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b, found.n) == (5, 0, 10)
    assert found.p == pytest.approx(2 * 0.5**5)
    assert found.difference == pytest.approx(-0.5)
    half = stats.norm.ppf(0.975) * math.sqrt(6 - 5**2 / 12) / 12  # Agresti and Min: half a prompt in every cell
    assert (found.low, found.high) == (pytest.approx(-5 / 12 - half), pytest.approx(-5 / 12 + half))


@pytest.mark.parametrize("value", [True, False])
def test_models_that_never_differ_are_not_known_to_be_equal(value: bool) -> None:
    found = mcnemar([value] * 20, [value] * 20)
    assert found.p == 1 and found.difference == 0
    assert found.low == pytest.approx(-found.high) and found.high == pytest.approx(stats.norm.ppf(0.975) / 22)


@pytest.mark.parametrize("n", [1, 3, 200])
def test_every_prompt_of_the_other_model_is_a_difference_of_at_most_one(n: int) -> None:
    found = mcnemar([False] * n, [True] * n)
    assert found.difference == 1 and found.high <= 1 and found.low < 1
    assert found.p == pytest.approx(min(1.0, 2 * 0.5**n))


def test_the_bootstrap_is_that_of_the_mean_of_group_means() -> None:
    rng = np.random.default_rng(1)
    groups = {"one": rng.choice([-1.0, 0.0, 0.5], 80).tolist(), "two": rng.choice([0.0, 1.0], 40).tolist()}
    found = paired_bootstrap(groups, 2.0)
    assert found.difference == pytest.approx(np.mean([np.mean(group) for group in groups.values()]))
    error = math.sqrt(sum(np.var(group) / len(group) for group in groups.values())) / 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    z = found.difference / error
    assert found.n == 120 and found.p == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.02)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_differences_that_are_all_alike_have_a_width(value: float) -> None:
    found = paired_bootstrap({"": [value] * 30}, 1.0)
    assert found.low < value < found.high or (value == 1.0 and found.low < value == pytest.approx(found.high))
    assert found.p == 1.0 if value == 0 else found.p < 0.01
    few = paired_bootstrap({"": [value] * 5}, 1.0)
    assert few.high - few.low > found.high - found.low


def test_one_prompt_proves_nothing() -> None:
    assert paired_bootstrap({"": [1.0]}, 1.0)[2:4] == (None, None)
    assert paired_bootstrap({"": [1.0]}, 1.0).p == 1


def test_seeds_are_paired_where_both_have_the_same() -> None:
    a, b = {0: 0.5, 1: 0.6, 2: 0.7}, {2: 0.8, 0: 0.55, 1: 0.7}
    found = over_seeds(a, b)
    expected = stats.ttest_rel([0.55, 0.7, 0.8], [0.5, 0.6, 0.7])
    assert found is not None and found.test == "t, paired" and found.n == 3
    assert found.p == pytest.approx(expected.pvalue) and found.difference == pytest.approx(0.25 / 3)
    low, high = t_interval([0.05, 0.1, 0.1]) or (0, 0)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_other_seeds_are_compared_as_two_samples() -> None:
    a, b = {0: 0.5, 1: 0.6}, {5: 0.9, 6: 0.8, 7: 0.95}
    found = over_seeds(a, b)
    expected = stats.ttest_ind([0.9, 0.8, 0.95], [0.5, 0.6], equal_var=False)
    assert found is not None and found.test == "t, Welch" and found.n == 5 and found.p == pytest.approx(expected.pvalue)


def test_what_does_not_vary_or_is_alone_has_no_test_over_seeds() -> None:
    assert over_seeds({0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0}) is None
    assert over_seeds({0: 0.0}, {0: 1.0}) is None
    assert over_seeds({}, {0: 1.0, 1: 0.5}) is None


def test_a_mean_over_seeds_has_the_t_interval() -> None:
    low, high = t_interval([0.5, 0.6, 0.7]) or (0, 0)
    assert (high - low) / 2 == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)
    assert t_interval([0.5]) is None and t_interval([0.0, 0.0, 0.0]) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2] and holm([]) == []
