"""The comparison of methods over tasks, as a table."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from trainer.evaluation.report import cell
from trainer.methods.safegene.names import MEAN

_COLUMNS = (("attack\nsuccess ↓", "asr"), ("task\naccuracy ↑", "task_accuracy"), ("over-\nrefusal ↓", "over_refusal"))


def tables(results: dict[str, Any]) -> list[Table]:
    """One row per method: means over the tasks, and the attack success in every task."""
    models: dict[str, Any] = results["models"]
    rows = [label.partition("/")[2] for label in models if label.startswith(f"{MEAN}/")]
    tasks = [label.partition("/")[0] for label in models if label.endswith("/none") and not label.startswith(MEAN)]
    if not rows:
        return []
    title = f"{results['run']}: methods, means over {len(tasks)} tasks (95% bootstrap intervals)"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("method", no_wrap=True)
    for heading, _ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for task in tasks:
        table.add_column(f"attack\n{task} ↓", justify="right", no_wrap=True)
    table.add_column("seconds\nper task", justify="right", no_wrap=True)
    for row in rows:
        of_tasks = [models[f"{task}/{row}"] for task in tasks if f"{task}/{row}" in models]
        seconds = [metrics["seconds"]["value"] for metrics in of_tasks if "seconds" in metrics]
        table.add_row(
            row,
            *(cell(models[f"{MEAN}/{row}"].get(metric)) for _, metric in _COLUMNS),
            *(cell({**metrics["asr"], "ci95": None}) if "asr" in metrics else "-" for metrics in of_tasks),
            f"{sum(seconds) / len(seconds):.0f}" if seconds else "-",
        )
    return [table]
