"""Safety against capability as a PNG: what the page's plot shows, for a run's directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trainer.compare.comparison import Cell, Comparison, Metric, Pareto, Point

_MARKERS = "os^DPvX*"
_SAID = {"up": " ↑", "down": " ↓, axis turned"}
_GREY = "#9aa1ab"


def draw_pareto(comparison: Comparison, pareto: Pareto, path: Path) -> None:
    """One marker per row with its 95% intervals; dominated rows in grey, a line along the front, a ring around its knee."""
    metrics = {metric.name: metric for metric in comparison.metrics}
    cells = {(cell.row, cell.metric): cell for cell in comparison.cells}
    figure = Figure(figsize=(7.5, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    front = sorted((point for point in pareto.points if not point.dominated), key=lambda point: point.capability)
    axes.plot(*staircase(front, metrics[pareto.capability], metrics[pareto.safety]), color="black", alpha=0.5, linewidth=1.2)
    for index, point in enumerate(pareto.points):
        colour = _GREY if point.dominated else f"C{index % 10}"
        x, y = cells[point.row, pareto.capability], cells[point.row, pareto.safety]
        style: Mapping[str, Any] = {"color": colour, "ecolor": (0, 0, 0, 0.35), "markersize": 7, "elinewidth": 0.9, "zorder": 3}
        marker = _MARKERS[index % len(_MARKERS)]
        axes.errorbar(point.capability, point.safety, xerr=_bar(x), yerr=_bar(y), fmt=marker, label=point.row, **style)
        if point.knee:
            axes.plot(point.capability, point.safety, "o", markersize=15, fillstyle="none", color="black", label="knee")
    _name(axes, metrics[pareto.capability], metrics[pareto.safety])
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)


def staircase(front: list[Point], across: Metric, up: Metric) -> tuple[list[float], list[float]]:
    """The border of what the front dominates: between two points it turns where both metrics are the worse of the two."""
    worse = {"down": max}
    x, y = [], []
    for before, point in zip([None, *front], front, strict=False):
        if before is not None:
            x.append(worse.get(across.direction, min)(before.capability, point.capability))
            y.append(worse.get(up.direction, min)(before.safety, point.safety))
        x.append(point.capability)
        y.append(point.safety)
    return x, y


def _bar(cell: Cell) -> list[list[float]] | None:
    """How far the interval goes below and above the value."""
    if cell.value is None or cell.low is None or cell.high is None:
        return None
    return [[max(0.0, cell.value - cell.low)], [max(0.0, cell.high - cell.value)]]


def _name(axes: Axes, across: Metric, up: Metric) -> None:
    """What is better is up and right, whatever is measured."""
    x, y = (metric.title + _SAID.get(metric.direction, "") for metric in (across, up))
    axes.set(title="safety and what it cost (95% intervals)", xlabel=x, ylabel=y)
    axes.margins(0.1)
    axes.xaxis.set_inverted(across.direction == "down")
    axes.yaxis.set_inverted(up.direction == "down")
    axes.grid(alpha=0.25)
