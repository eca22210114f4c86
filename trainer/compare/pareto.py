"""The front of models that no other beats in both safety and capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.compare.comparison import Pareto, Point
from trainer.vocabulary import is_cosa_split, measure_of

CAPABILITY = ("capability/accuracy", "capability/task")


def is_safety(metric: str) -> bool:
    """Whether a front is drawn of it and capability."""
    return metric == "safety/asr" or is_cosa_split(metric)


def pareto(safety: str, capability: str, at: Mapping[str, tuple[float, float]]) -> Pareto:
    """The points, and the area that their front dominates.

    Args:
        safety, capability: metrics that have a direction, and a worst value.
        at: row -> its values of the two.
    """
    good = {row: (_goodness(safety, s), _goodness(capability, c)) for row, (s, c) in at.items()}
    front = [row for row, point in good.items() if not any(_beats(other, point) for other in good.values())]
    knee = _knee({row: good[row] for row in front})
    points = [Point(row, *at[row], dominated=row not in front, knee=row == knee) for row in at]
    return Pareto(safety, capability, points, hypervolume([good[row] for row in front]))


def hypervolume(front: Sequence[tuple[float, float]]) -> float:
    """Area between the front and (0, 0), of points that are both at least 0 and better where they are larger."""
    area, reached = 0.0, 0.0
    for x, y in sorted(front, reverse=True):
        area += x * max(0.0, y - reached)
        reached = max(reached, y)
    return area


def _goodness(metric: str, value: float) -> float:
    """How far it is from the worst value of its range."""
    measure = measure_of(metric)
    worst = measure.range[0 if measure.direction == "up" else 1]
    assert worst is not None  # those above have both ends
    return value - worst if measure.direction == "up" else worst - value


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def _knee(front: Mapping[str, tuple[float, float]]) -> str | None:
    """The point farthest above the line between the ends of the front, both axes scaled to its extent; None where the front
    does not bulge."""
    ordered = sorted(front.items(), key=lambda item: item[1])
    if len(ordered) < 3:
        return None
    (x0, y0), (x1, y1) = ordered[0][1], ordered[-1][1]
    if x0 == x1 or y0 == y1:
        return None
    bulge = {row: (x - x0) / (x1 - x0) + (y - y1) / (y0 - y1) - 1 for row, (x, y) in ordered}
    best = max(bulge, key=bulge.__getitem__)
    return best if bulge[best] > 0 else None
