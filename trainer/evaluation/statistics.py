"""Averages over the configs (or sets) of an evaluation, and their intervals: by bootstrap, and Wilson's where all are alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap

Range = tuple[float, float]
SHARE: Range = (0.0, 1.0)  # what a value is at least and at most
SCORE: Range = (-1.0, 1.0)


def macro_average(values: Mapping[str, Sequence[float]]) -> float:
    """Mean over configs of the mean inside a config.

    Args:
        values: config -> one value a response, shape (N_config,).
    """
    return float(np.mean([np.mean(v) for v in values.values()]))


def macro_interval(
    values: Mapping[str, Sequence[float]], resamples: int, seed: int, within: Range | None = None
) -> tuple[float, float] | None:
    """95% interval of `macro_average`: prompts are resampled inside each config, configs are fixed. Where no config has two
    different values there is nothing to resample: then it is Wilson's, if it is known within which range values lie.

    Returns:
        (low, high), or None where a config has fewer than two prompts.
    """
    samples: list[NDArray[np.float64]] = [np.asarray(v, dtype=np.float64) for v in values.values()]
    if any(len(sample) < 2 for sample in samples):
        return None
    if within is not None and all(np.ptp(sample) == 0 for sample in samples):
        return _where_all_are_alike(samples, within)

    def statistic(*columns: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.mean([column.mean(axis=axis) for column in columns], axis=0)  # type: ignore[no-any-return]

    result = bootstrap(
        samples, statistic, n_resamples=resamples, confidence_level=0.95, method="percentile",
        vectorized=True, batch=200, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _where_all_are_alike(samples: Sequence[NDArray[np.float64]], within: Range) -> tuple[float, float]:
    """Of N answers none differs from the value of all, so that at most a share u would, Wilson's bound for 0 of N, and the mean
    is off by at most u times the way to an end of the range: for shares of 0 or 1 that is Wilson's interval itself. The errors
    of several configs add up as independent ones do."""
    squares = np.zeros(2)
    for sample in samples:
        share = binomtest(0, len(sample)).proportion_ci(method="wilson").high
        squares += (share * np.abs(sample[0] - np.asarray(within)) / len(samples)) ** 2
    mean = float(np.mean([sample[0] for sample in samples]))
    below, above = np.sqrt(squares)
    return mean - float(below), mean + float(above)


def ratio_interval(above: Sequence[float], below: Sequence[float], resamples: int, seed: int) -> tuple[float, float] | None:
    """95% bootstrap interval of sum(above) / sum(below): rows are resampled with both their values.

    Args:
        above, below: one value per row, shape (N,).

    Returns:
        (low, high), or None where there are fewer than two rows.
    """
    if len(above) < 2:
        return None
    numerators, denominators = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)

    def of_resample(rows: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        return numerators[rows].sum(axis=axis) / denominators[rows].sum(axis=axis)  # type: ignore[no-any-return]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            [np.arange(len(above))], of_resample, n_resamples=resamples, confidence_level=0.95, method="percentile",
            vectorized=True, batch=200, rng=np.random.default_rng(seed),
        )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_interval(
    values: Mapping[str, Sequence[float]],
    others: Mapping[str, Sequence[float]],
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    resamples: int,
    seed: int,
) -> tuple[float, float] | None:
    """95% bootstrap interval of a statistic of two macro-averages: prompts are resampled with both their values.

    Args:
        values, others: config -> one value per prompt, shape (N_config,), in the same order.

    Returns:
        (low, high), or None where a config has fewer than two prompts, or the statistic of a resample is not finite.
    """
    columns = [(np.asarray(values[name], dtype=np.float64), np.asarray(others[name], dtype=np.float64)) for name in values]
    if any(len(first) < 2 for first, _ in columns):
        return None

    def of_resample(*rows: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        drawn = zip(columns, rows, strict=True)
        means = np.mean([[column[of_rows].mean(axis=axis) for column in pair] for pair, of_rows in drawn], axis=0)
        return statistic(means[0], means[1])

    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            [np.arange(len(first)) for first, _ in columns], of_resample, n_resamples=resamples, confidence_level=0.95,
            method="percentile", vectorized=True, batch=200, rng=np.random.default_rng(seed),
        )  # fmt: skip
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return (low, high) if np.isfinite([low, high]).all() else None
