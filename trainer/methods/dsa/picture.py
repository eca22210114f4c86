"""Pictures of guardrails, and of what aligning costs at each strength."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from trainer.errors import DataError
from trainer.methods.dsa.measure import Metric, expected_calibration_error, reliability, roc

_DIAGONAL: Mapping[str, Any] = {"color": "grey", "linestyle": ":", "linewidth": 1}
_MARKERS = "sDv^P*Xp"
_LABEL = (60, 15)  # pixels that the label of a strength takes
_BARS = (0, 0, 0, 0.35)  # black, mostly transparent


def draw_guardrails(labels: ArrayLike, probabilities: Mapping[str, ArrayLike], taus: Mapping[str, float], path: Path) -> None:
    """A PNG with the ROC curve of every guardrail and, beside it, its reliability diagram. A circle marks what it does at tau.

    Args:
        labels: of the rows that all guardrails saw, 1 = unsafe, shape (N,).
        probabilities: of each guardrail, shape (N,).
        taus: of those guardrails that have a threshold.

    Raises:
        DataError: there is no guardrail, or its measures refuse the rows.
    """
    if not probabilities:
        raise DataError("there is no guardrail to draw; give the probabilities of at least one.")
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    known = np.asarray(labels)
    for name, of_one in probabilities.items():
        false, true = roc(labels, of_one)
        area, error = float(np.trapezoid(true, false)), expected_calibration_error(labels, of_one)
        (line,) = left.plot(false, true, label=f"{name}: AUC {area:.3f}, ECE {error:.3f}", linewidth=1.6)
        if name in taus:
            flagged = np.asarray(of_one) >= taus[name]
            point = (np.mean(flagged[known == 0]), np.mean(flagged[known == 1]))
            left.plot(*point, "o", markersize=9, color=line.get_color(), markeredgecolor="black", zorder=3, clip_on=False)
        predicted, observed, counts = reliability(labels, of_one)
        right.plot(predicted, observed, linewidth=1, alpha=0.5, color=line.get_color())
        right.scatter(predicted, observed, s=8 + 250 * counts / len(known), color=line.get_color(), zorder=2, clip_on=False)
    left.set(title="ROC (circle: at tau)", xlabel="false-positive rate", ylabel="true-positive rate")
    right.set(title="reliability (area: rows)", xlabel="mean probability of unsafe", ylabel="share that is unsafe")
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], **_DIAGONAL)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=120)


def draw_strengths(
    curve: Mapping[float, tuple[Metric, Metric]], others: Mapping[str, tuple[Metric, Metric]], path: Path
) -> None:
    """A PNG of safety against capability: a line through the strengths, labelled with them, and markers for all else (the
    targeted point, baselines), each with its 95% intervals. Strengths that fall together share a label.

    Args:
        curve: strength (lambda) -> capability and safety.
        others: name -> capability and safety.

    Raises:
        DataError: the curve is empty.
    """
    if not curve:
        raise DataError("there is no strength to draw; give capability and safety at one strength at least.")
    figure = Figure(figsize=(7.5, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ordered = sorted(curve)
    points = np.array([[metric["value"] for metric in curve[strength]] for strength in ordered])
    axes.plot(*points.T, "-", color="C0", linewidth=1.2, zorder=2)
    for index, strength in enumerate(ordered):
        _mark(axes, curve[strength], "o", "C0", "strength of the aligner" if index == 0 else None)
    for index, (name, measured) in enumerate(others.items()):
        _mark(axes, measured, _MARKERS[index % len(_MARKERS)], f"C{index + 1}", name)
    axes.margins(0.12)
    axes.autoscale_view()
    for first, last in _together(axes.transData.transform(points)):
        text = "λ=" + ", ".join(f"{strength:g}" for strength in ordered[first:last])
        axes.annotate(text, points[first], xytext=(7, 7), textcoords="offset points", fontsize="small", color="C0", zorder=4)
    axes.set(title="safety and its cost (95% intervals)", xlabel="capability", ylabel="safety")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)


def _together(points: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Runs (first, last + 1) of successive points (N, 2), in pixels, so close that they share one label."""
    runs: list[tuple[int, int]] = []
    for index, point in enumerate(points):
        if runs and np.all(np.abs(point - points[runs[-1][0]]) < _LABEL):
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _mark(axes: Axes, measured: tuple[Metric, Metric], marker: str, colour: str, label: str | None) -> None:
    """A point, with bars to both ends of its intervals where it has them."""
    (x, y), (across, up) = (m["value"] for m in measured), (_bar(m) for m in measured)
    style: Mapping[str, Any] = {"color": colour, "ecolor": _BARS, "markersize": 7, "elinewidth": 0.9, "zorder": 3}
    axes.errorbar(x, y, xerr=across, yerr=up, fmt=marker, label=label, **style)


def _bar(metric: Metric) -> list[list[float]]:
    """How far the interval goes below and above the value."""
    low, high = metric["ci95"] or (metric["value"], metric["value"])
    return [[max(0.0, metric["value"] - low)], [max(0.0, high - metric["value"])]]
