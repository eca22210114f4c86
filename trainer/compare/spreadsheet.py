"""Every cell of a comparison as table.csv, one per line."""

from __future__ import annotations

import csv
from pathlib import Path

from trainer.compare.comparison import Comparison

COLUMNS = (
    "row", "setting", "method", "model", "role", "run", "seed", "metric", "direction", "unit", "value", "low", "high",
    "n", "over",
)  # fmt: skip


def write_csv(comparison: Comparison, path: Path) -> None:
    """A line for each row and metric, with `run` empty, and one for each run of it."""
    rows, metrics = ({one.key: one for one in comparison.rows}, {one.name: one for one in comparison.metrics})
    seeds = {run.key: run.seed for run in comparison.runs}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for cell in comparison.cells:
            row, metric = rows[cell.row], metrics[cell.metric]
            first = [row.key, row.setting or "", row.method, row.label, row.role]
            middle = [metric.name, metric.direction, metric.unit]
            writer.writerow([*first, "", "", *middle, cell.value, cell.low, cell.high, cell.n, cell.over])
            for run, one in cell.by_run.items():
                over = "prompts" if one.low is not None else ""
                writer.writerow([*first, run, seeds[run], *middle, one.value, one.low, one.high, one.n, over])
