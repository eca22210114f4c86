"""Whether two models differ by more than chance, over prompts and over seeds; and how sure a mean over seeds is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trainer.evaluation.statistics import macro_interval

RESAMPLES = 2000
_ROUNDING = 1e-12  # of the largest value
_Z = float(stats.norm.ppf(0.975))


class Found(NamedTuple):
    """Of b against a: see `trainer.compare.comparison.Contrast`."""

    test: str
    difference: float
    low: float | None
    high: float | None
    n: int
    only_a: int | None
    only_b: int | None
    p: float


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95% interval of the mean of measurements that are independent and normal; None of fewer than two, or of some that do not
    vary, whose spread says nothing."""
    if len(values) < 2 or not _vary(values):
        return None
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    mean = float(np.mean(values))
    return mean - half, mean + half


def _vary(values: Sequence[float] | NDArray[np.float64]) -> bool:
    """Beyond what rounding does to numbers that are the same."""
    return bool(np.ptp(values) > _ROUNDING * np.max(np.abs(values)))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> Found:
    """The exact test of two outcomes on the same prompts: of those on which the models differ, as many should be a's as b's.
    The interval of the difference of shares is Wald's after half a prompt is added to each of the four cells (Agresti and Min
    2005), so that it has a width where the models never differ."""
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    n, differ = len(a), only_a + only_b
    p = float(stats.binomtest(only_a, differ).pvalue) if differ else 1.0
    x, y, total = only_a + 0.5, only_b + 0.5, n + 2
    middle, half = (y - x) / total, _Z * float(np.sqrt(x + y - (y - x) ** 2 / total)) / total
    return Found(
        "McNemar, exact", (only_b - only_a) / n, max(-1.0, middle - half), min(1.0, middle + half), n, only_a, only_b, p
    )


def paired_bootstrap(differences: Mapping[str, Sequence[float]], width: float, seed: int = 0) -> Found:
    """The mean over groups of the mean difference inside a group: prompts are resampled inside each. p is twice the share of
    resamples on the other side of 0, which counts as one more than were found.

    Args:
        differences: group (a safety config, a set of prompts) -> b minus a on each of its prompts.
        width: the largest difference there can be.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in differences.values() if len(group)]
    value, n = float(np.mean([group.mean() for group in groups])), sum(map(len, groups))
    if all(np.ptp(group) == 0 for group in groups):
        interval = macro_interval({str(i): group.tolist() for i, group in enumerate(groups)}, 1, seed, (-width, width))
        low, high = interval or (None, None)
        p = 1.0 if value == 0 or low is None or high is None or low <= 0 <= high else 2 / (RESAMPLES + 1)
        return Found("bootstrap, paired", value, low, high, n, None, None, p)
    rng = np.random.default_rng(seed)
    means: NDArray[np.float64] = np.mean([_resampled(group, rng) for group in groups], axis=0)
    low, high = (float(end) for end in np.quantile(means, (0.025, 0.975)))
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Found("bootstrap, paired", value, low, high, n, None, None, min(1.0, 2 * (beyond + 1) / (RESAMPLES + 1)))


def _resampled(group: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of resamples, shape (RESAMPLES,); a resample is how often each of the values that there are is drawn."""
    values, counts = np.unique(group, return_counts=True)
    drawn = rng.multinomial(len(group), counts / len(group), RESAMPLES)
    return drawn @ values / len(group)  # type: ignore[no-any-return]


def over_seeds(a: Mapping[int, float], b: Mapping[int, float]) -> Found | None:
    """Student's t-test of pairs with the same seed, or Welch's where they are not all of the same seeds; None where there are
    fewer than two of each, or nothing varies.

    Args:
        a, b: seed -> value.
    """
    if min(len(a), len(b)) < 2:
        return None
    paired = a.keys() == b.keys()
    first, second = [a[seed] for seed in sorted(a)], [b[seed] for seed in sorted(b)]
    varies = _vary(np.subtract(second, first)) if paired else _vary(first) or _vary(second)
    if not varies:
        return None
    result = stats.ttest_rel(second, first) if paired else stats.ttest_ind(second, first, equal_var=False)
    interval = result.confidence_interval(0.95)
    n = len(first) if paired else len(first) + len(second)
    difference = float(np.mean(second) - np.mean(first))
    test = "t, paired" if paired else "t, Welch"
    return Found(test, difference, float(interval.low), float(interval.high), n, None, None, float(result.pvalue))


def holm(values: Sequence[float]) -> list[float]:
    """p-values after Holm's correction (1979), in the order given: that of rank i among m, the least being of rank 1, is the
    largest of (m + 1 - j) p_j over all ranks j up to i, at most 1."""
    order = np.argsort(values, kind="stable")
    corrected, running = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = running
    return corrected
