"""The runs of a sweep as a table: what became of each, and its headline metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from trainer.config.load import read_config
from trainer.config.run import RunConfig
from trainer.pipeline.places import RESULTS
from trainer.pipeline.run import CONFIG
from trainer.terminal import table_console


@dataclass(frozen=True)
class Row:
    """state: done, kept (done before), failed, interrupted, missing, or what a scheduler calls it. job: its id."""

    point: str
    state: str
    run_dir: Path
    job: str | None = None


def print_table(title: str, rows: Sequence[Row]) -> None:
    """One line per run; the metrics are those of the last model in its results that is no variant, the one it was for."""
    console = table_console()
    configs = [read_config(path) if (path := row.run_dir / CONFIG).exists() else None for row in rows]
    found = [{} if config is None else _own_model(config, row.run_dir) for config, row in zip(configs, rows, strict=True)]
    suites = [config.evaluation for config in configs if config is not None and config.evaluation is not None]
    asked = dict.fromkeys(column for suite in suites for column in suite.headline)
    columns = [column for column in asked if any(column[1] in metrics for metrics in found)]
    with_jobs = any(row.job for row in rows)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    if with_jobs:
        table.add_column("job", no_wrap=True)
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row, metrics in zip(rows, found, strict=True):
        found_here = [metrics.get(key, {}).get("value") for _, key in columns]
        numbers = ["-" if value is None else f"{value:.3f}" for value in found_here]
        table.add_row(row.point, row.state, *([row.job or "-"] if with_jobs else []), *numbers)
    console.print()
    console.print(table)


def _own_model(config: RunConfig, run_dir: Path) -> dict[str, Any]:
    path = run_dir / RESULTS
    models: dict[str, Any] = json.loads(path.read_text())["models"] if path.exists() else {}
    own = config.method.own(config, list(models))
    return {} if own is None else models[own]
