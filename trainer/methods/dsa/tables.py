"""The guardrails of a run as a table."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from trainer.evaluation.report import cell


def tables(results: dict[str, Any]) -> list[Table]:
    """One row per guardrail, one column per test set; none where the run has no guardrails."""
    metrics: dict[str, Any] = results["models"].get("base", {})
    keys = [key.split("/")[1:] for key in metrics if key.startswith("guardrail_auc/")]
    if not keys:
        return []
    title = f"{results['run']}: guardrails, area under the ROC curve (95% bootstrap intervals)"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("guardrail", no_wrap=True)
    sets = list(dict.fromkeys(of_set for _, of_set in keys))
    for of_set in sets:
        table.add_column(f"{of_set} ↑", justify="right", no_wrap=True)
    for guardrail in dict.fromkeys(guardrail for guardrail, _ in keys):
        table.add_row(guardrail, *(cell(metrics.get(f"guardrail_auc/{guardrail}/{of_set}"), 3) for of_set in sets))
    return [table]
