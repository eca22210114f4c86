"""Numbers, headings and the short table, in the words that every text output shares."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.compare.comparison import Cell, Comparison, Contrast, Metric, Row

FEW = 20  # rows up to which all stand in a short table; of more, those that runs were for, and their bases
_ARROWS = {"up": "↑", "down": "↓", "": ""}
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
NOTE = (
    "95% intervals: over seeds, t (mean of the runs); of one run, and where all seeds gave the same value, over prompts. p: "
    "two-sided; p (Holm): corrected over all tests of its kind in this report. McNemar's test and the bootstrap are paired by "
    "prompt."
)


@dataclass(frozen=True)
class Short:
    """What stands in a short table. cells: by row and metric."""

    rows: list[Row]
    metrics: list[Metric]
    cells: dict[tuple[str, str], Cell]


def short(comparison: Comparison) -> Short:
    rows = comparison.rows
    if len(rows) > FEW:
        rows = [row for row in rows if row.role != "other"]
    cells = {(cell.row, cell.metric): cell for cell in comparison.cells}
    metrics = [m for m in comparison.metrics if m.headline and any((row.key, m.name) in cells for row in rows)]
    return Short(rows, metrics, cells)


def heading(metric: Metric) -> str:
    return f"{metric.title} {_ARROWS[metric.direction]}".strip()


def number(value: float, unit: str) -> str:
    """`0.023` of a share, a score or a ratio; `684k` of a count; three digits of anything else."""
    if unit in ("share", "score", "ratio"):
        return f"{value:.3f}"
    for size, letter in _STEPS:
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ends(low: float | None, high: float | None, unit: str) -> str:
    """`[0.011, 0.048]`, or nothing."""
    return "" if low is None or high is None else f"[{number(low, unit)}, {number(high, unit)}]"


def cell_text(cell: Cell | None, metric: Metric) -> str:
    """`0.023 [0.011, 0.048]`, or `-` where nothing was measured."""
    if cell is None or cell.value is None:
        return "-"
    return f"{number(cell.value, metric.unit)} {ends(cell.low, cell.high, metric.unit)}".strip()


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def contrast_row(contrast: Contrast, metric: Metric) -> list[str]:
    """metric, a, b, difference, test, n, p, p (Holm)."""
    counts = "" if contrast.only_a is None else f" ({contrast.only_a} : {contrast.only_b})"
    difference = f"{contrast.difference:+.3f} {ends(contrast.low, contrast.high, metric.unit)}".strip()
    tested = [f"{contrast.test}{counts}", str(contrast.n), p_text(contrast.p), p_text(contrast.p_holm)]
    return [metric.title, contrast.a, contrast.b, difference, *tested]


CONTRAST_HEADINGS = ("metric", "a", "b", "b - a", "test", "n", "p", "p (Holm)")


def not_measured(comparison: Comparison) -> list[str]:
    """A line for every cell that is empty because a judge was not understood."""
    return [
        f"{cell.row}: {cell.metric} is missing, for no judgement of {', '.join(cell.missing)} was understood"
        for cell in comparison.cells
        if cell.missing
    ]
