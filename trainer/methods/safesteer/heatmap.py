"""A picture of the selection of a refusal direction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from trainer.methods.safesteer.direction import Candidate

_VEIL = (0.4, 0.4, 0.4, 0.5)  # over dropped candidates: grey, half transparent
_PANELS = (("bypass", "lower is better"), ("induce", "higher is better"), ("kl", "nats, lower is better"))


def draw(candidates: Sequence[Candidate], selected: tuple[int, int], path: Path) -> None:
    """A PNG with a panel each for bypass, induce and KL: layers across, template positions down. Dropped candidates are
    hatched, the selected one is outlined, what was not measured is grey.

    Args:
        selected: position and layer.
    """
    positions = sorted({c.position for c in candidates})
    layers = sorted({c.layer for c in candidates})
    figure = Figure(figsize=(max(7.0, 3 + 0.22 * len(layers)), 3 * (1.2 + 0.3 * len(positions))), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, meaning) in zip(figure.subplots(len(_PANELS), 1), _PANELS, strict=True):
        grid = np.full((len(positions), len(layers)), np.nan)
        for c in candidates:
            grid[positions.index(c.position), layers.index(c.layer)] = getattr(c, name)
        axes.set_facecolor("lightgrey")
        image = axes.imshow(grid, aspect="auto", cmap="viridis")
        figure.colorbar(image, ax=axes, pad=0.01)
        for c in candidates:
            corner = (layers.index(c.layer) - 0.5, positions.index(c.position) - 0.5)
            if c.dropped is not None:
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=_VEIL, hatch="///", edgecolor="white", linewidth=0))
            if (c.position, c.layer) == selected:
                axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2.5, zorder=3))
        axes.set_title(f"{name} ({meaning})", loc="left")
        axes.set_yticks(range(len(positions)), [str(p) for p in positions])
        axes.set_ylabel("position")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    figure.suptitle(f"refusal direction: layer {selected[1]}, position {selected[0]}; hatched: dropped")
    figure.savefig(path, dpi=120)
