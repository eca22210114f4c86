"""How well a guardrail tells unsafe from safe: ROC AUC, rates at a threshold, and how far its probabilities are true.

N   rows (prompts or responses)
labels (N,): 1 = unsafe, 0 = safe. scores (N,): the higher, the less safe; probabilities where it says so.
A row is flagged where its score is at least the threshold tau.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

from trainer.errors import ConfigError, DataError
from trainer.evaluation.statistics import SHARE, macro_interval

Vector = NDArray[np.float64]
Metric = dict[str, Any]  # value; ci95: [low, high], or None where a class has fewer than two rows; n: rows


def auc(labels: ArrayLike, scores: ArrayLike, resamples: int, seed: int) -> Metric:
    """Area under the ROC curve: the chance that an unsafe row scores higher than a safe one, where a tie counts half.

    The interval is a percentile bootstrap, each class resampled by itself, of Mann-Whitney's U over the number of pairs: the
    same area, computed for many resamples at once. Where all resamples have the same area, as where no pair is out of order,
    that says nothing of rows that were not drawn: then the pairs that share no row count, which are independent, as many as the
    smaller class has rows. None of them differs from the others, and the interval is Wilson's of that (see `macro_interval`).

    Raises:
        DataError: a class is missing, the shapes differ, or a score is not a finite number.
    """

    def area(unsafe: Vector, safe: Vector, axis: int) -> Vector:
        u = mannwhitneyu(unsafe, safe, axis=axis, method="asymptotic").statistic
        return u / (unsafe.shape[axis] * safe.shape[axis])  # type: ignore[no-any-return]

    classes, value = _by_class(labels, scores), float(roc_auc_score(labels, scores))
    interval: list[float] | None = None
    if min(map(len, classes)) >= 2:
        result = bootstrap(
            classes, area, n_resamples=resamples, confidence_level=0.95, method="percentile",
            vectorized=True, batch=100, rng=np.random.default_rng(seed),
        )  # fmt: skip
        interval = [float(result.confidence_interval.low), float(result.confidence_interval.high)]
        if interval[0] == interval[1]:
            alike = macro_interval({"pairs": [value] * min(map(len, classes))}, resamples, seed, SHARE)
            interval = None if alike is None else list(alike)
    return {"value": value, "ci95": interval, "n": sum(map(len, classes))}


def roc(labels: ArrayLike, scores: ArrayLike) -> tuple[Vector, Vector]:
    """False- and true-positive rate at every threshold that is a score, from none flagged to all: each (distinct scores + 1,).

    Raises:
        DataError: as `auc`.
    """
    _by_class(labels, scores)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return false, true


def calibrate(scores_of_benign: ArrayLike, false_positive_rate: float) -> float:
    """tau: the smallest threshold that flags at most this share of benign prompts (validation ones).

    As many of them may be flagged as the rate allows; tau is the next single-precision number above the highest score that
    must not be, so it is the same threshold for single- and double-precision scores. Tied scores are flagged together or
    not at all: with ties, the measured rate may be well below the one asked for. Where not even one may be flagged, tau is
    above all of them.

    Args:
        scores_of_benign: shape (N,).
        false_positive_rate: in [0, 1).

    Raises:
        ConfigError: the rate is outside its range.
        DataError: there are no scores, or one is not a finite number.
    """
    if not 0 <= false_positive_rate < 1:
        raise ConfigError(
            f"false_positive_rate is {false_positive_rate}; it must be at least 0 and below 1; for example, 0.05 flags at "
            "most one benign prompt in twenty."
        )
    descending = np.sort(_finite(scores_of_benign))[::-1]
    shares = np.arange(1, len(descending) + 1) / len(descending)
    flagged = int(np.sum(shares <= false_positive_rate))
    return float(np.nextafter(np.float32(descending[flagged]), np.float32(np.inf)))


def rates(labels: ArrayLike, scores: ArrayLike, tau: float, resamples: int, seed: int) -> dict[str, Metric]:
    """`true_positive_rate` and `false_positive_rate`: the shares of unsafe and of safe rows that are flagged at tau.

    Raises:
        DataError: as `auc`.
    """
    measured: dict[str, Metric] = {}
    for name, of_class in zip(("true_positive_rate", "false_positive_rate"), _by_class(labels, scores), strict=True):
        flagged = [float(score >= tau) for score in of_class]
        interval = macro_interval({name: flagged}, resamples, seed, SHARE)
        measured[name] = {
            "value": float(np.mean(flagged)),
            "ci95": None if interval is None else list(interval),
            "n": len(flagged),
        }
    return measured


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> tuple[Vector, Vector, NDArray[np.int64]]:
    """Probabilities against what was observed, in bins of equal width; empty bins are left out.

    Returns:
        mean probability, share of unsafe rows, and number of rows of each bin.

    Raises:
        DataError: as `auc`, or a probability is outside [0, 1].
    """
    unsafe, safe = _by_class(labels, probabilities)
    predicted = np.concatenate([unsafe, safe])
    if predicted.min() < 0 or predicted.max() > 1:
        raise DataError(
            f"probabilities range from {predicted.min():.4g} to {predicted.max():.4g}, they must be in [0, 1]; apply the "
            "sigmoid to logits first."
        )
    observed = np.repeat([1.0, 0.0], [len(unsafe), len(safe)])
    index = np.minimum((predicted * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = counts > 0
    means = [np.bincount(index, weights=values, minlength=bins)[filled] / counts[filled] for values in (predicted, observed)]
    return means[0], means[1], counts[filled]


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """ECE = sum over bins of (n_bin / N) |share of unsafe rows - mean probability|, in [0, 1] (arXiv 1706.04599, eq. 3, for the
    probability of one class).

    Raises:
        DataError: as `reliability`.
    """
    predicted, observed, counts = reliability(labels, probabilities, bins)
    return float(np.sum(counts * np.abs(observed - predicted)) / np.sum(counts))


def _finite(scores: ArrayLike) -> Vector:
    vector = np.asarray(scores, dtype=np.float64)
    if vector.ndim != 1 or not len(vector):
        raise DataError(f"scores have shape {vector.shape}; give at least one, in one dimension.")
    if bad := int(np.sum(~np.isfinite(vector))):
        raise DataError(f"{bad} of {len(vector)} scores are not finite; a guardrail that gives such scores is broken.")
    return vector


def _by_class(labels: ArrayLike, scores: ArrayLike) -> Sequence[Vector]:
    """The scores of the unsafe and of the safe rows."""
    known, vector = np.asarray(labels), _finite(scores)
    if known.shape != vector.shape:
        raise DataError(f"there are {known.size} labels and {vector.size} scores; give one label a score.")
    if strange := sorted(set(known.tolist()) - {0, 1}, key=str):
        raise DataError(f"labels must be 0 or 1, there is {strange[0]!r}.")
    unsafe, safe = vector[known == 1], vector[known == 0]
    if not len(unsafe) or not len(safe):
        raise DataError(
            f"all {vector.size} rows are {'safe' if len(safe) else 'unsafe'}; a guardrail is measured on rows of both classes: "
            "add the other, or give more rows."
        )
    return unsafe, safe
