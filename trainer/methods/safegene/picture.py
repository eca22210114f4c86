"""Pictures of a gene: the scores of its layers, and what each method leaves of attack success and task accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_KEPT, _LEFT = "tab:blue", "lightgrey"


def draw_scores(scores: Sequence[float], norms: Sequence[float], kept: Sequence[int], path: Path) -> None:
    """A PNG with the contrast of every layer and the weight norm of its additions; kept layers are blue."""
    figure = Figure(figsize=(max(5.0, 2 + 0.25 * len(scores)), 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    colours = [_KEPT if layer in kept else _LEFT for layer in range(len(scores))]
    panels = ((scores, "activation contrast"), (norms, "norm of the addition"))
    for axes, (values, title) in zip(figure.subplots(2, 1, sharex=True), panels, strict=True):
        axes.bar(range(len(values)), values, color=colours, edgecolor="grey", linewidth=0.5)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_title(title, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer (blue: kept)")
    figure.savefig(path, dpi=120)


def draw_methods(points: Mapping[str, tuple[float, float]], own: str, path: Path) -> None:
    """A PNG with one point per method.

    Args:
        points: method -> attack success and task accuracy, means over tasks.
        own: the method whose point stands out.
    """
    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, (name, (attack, accuracy)) in enumerate(points.items()):
        look: dict[str, Any] = {"s": 110, "marker": "*", "color": "tab:red"} if name == own else {"s": 40, "color": f"C{place}"}
        axes.scatter(attack, accuracy, label=name, zorder=3, **look)
    axes.set_xlabel("attack success (lower is better)")
    axes.set_ylabel("task accuracy (higher is better)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
