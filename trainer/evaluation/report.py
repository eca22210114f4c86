"""The comparison as a table that a person reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from trainer.config.bases import Column
from trainer.config.run import RunConfig
from trainer.dotted import resolve
from trainer.pipeline.places import RESULTS

_WIDTH = 110  # of the table, where the output is not a terminal


def _short(value: float, decimals: int = 2) -> str:
    """`.41`, `-.07`, `1.00`: without the leading zero."""
    text = f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def cell(metric: dict[str, Any] | None, decimals: int = 2) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    text = _short(metric["value"], decimals)
    return text if metric["ci95"] is None else f"{text} ±{_short((metric['ci95'][1] - metric['ci95'][0]) / 2, decimals)}"


def results_table(results: dict[str, Any], columns: Sequence[Column], title: str = "safety and what it cost") -> Table:
    """One row per model, one column per metric, `value ±half of the 95% interval`."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{results['run']}: {title} (95% intervals)", title_justify="left")
    table.add_column("model", no_wrap=True)
    columns = [c for c in columns if any(c[1] in metrics for metrics in results["models"].values())]
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for label, metrics in results["models"].items():
        table.add_row(label, *(cell(metrics.get(key)) for _, key in columns))
    first: dict[str, Any] = next(iter(results["models"].values()), {})
    if any(key.startswith("cosa_score_attainable/") for key in first):
        perfect = {key.replace("_attainable", ""): value for key, value in first.items() if "_attainable/" in key}
        table.add_section()
        table.add_row("a perfect model", *(cell(perfect[key] | {"ci95": None}) if key in perfect else "" for _, key in columns))
    return table


def not_measured(results: dict[str, Any]) -> list[str]:
    """A line for each model of which the judge understood no answer in a config, or in a set of prompts."""
    lines = []
    for label, metrics in results["models"].items():
        missing = dict.fromkeys(name for metric in metrics.values() for name in metric.get("missing", ()))
        if missing:
            lines.append(f"{label}: no judgement of {', '.join(missing)} was understood (n = 0); what needs one is -")
    return lines


def with_auc(columns: Sequence[Column], results: dict[str, Any], judge: str) -> Sequence[Column]:
    """The columns of a judge's numbers; each with its AUC in the heading, where it is known how good the judge is."""
    auc = results.get("judges", {}).get(judge, {}).get("facts", {}).get("auc")
    return columns if auc is None else [(f"{heading}\n(AUC {_short(auc['value'])})", key) for heading, key in columns]


def second_opinions(results: dict[str, Any], columns: Sequence[Column]) -> list[Table]:
    """What each further judge says, as the main table, and how far each two judges agree."""
    judges = {name: judge for name, judge in results.get("judges", {}).items() if "models" in judge}
    tables = [
        results_table({"run": results["run"], "models": judge["models"]}, with_auc(columns, results, name), f"judged by {name}")
        for name, judge in judges.items()
    ]
    if found := results.get("agreement"):
        table = Table(box=box.SIMPLE_HEAD, title=f"{results['run']}: agreement of judges", title_justify="left")
        for heading in ("judges", "on", "n", "same", "Cohen's kappa"):
            table.add_column(heading, justify="left" if heading in ("judges", "on") else "right")
        for one in found:
            shown = cell({"value": one["kappa"], "ci95": one["ci95"]})
            table.add_row(" and ".join(one["judges"]), one["on"], f"{one['n']:,}", _short(one["agree"]), shown)
        tables.append(table)
    return tables


def beside(results: dict[str, Any]) -> list[str]:
    """A line for each judge of which something stands beside its numbers: how good it is, what it took."""
    lines = []
    for name, judge in results.get("judges", {}).items():
        facts = judge["facts"]
        if "auc" in facts:
            auc = facts["auc"]
            lines.append(f"{name}: AUC {cell(auc)} on responses of {', '.join(facts['auc_on'])} (n = {auc['n']:,})")
        if "requests" in facts:
            cost = "" if facts["dollars_now"] is None else f", ${facts['dollars_now']:,.2f}"
            tokens = f"{facts['prompt_tokens']:,} tokens of prompts and {facts['completion_tokens']:,} of replies"
            lines.append(f"{name}: {facts['requests']:,} replies, {tokens}; asked this time: {facts['requests_now']:,}{cost}")
    return lines


def print_report(config: RunConfig, run_dir: Path) -> None:
    """Print the table of a finished run and where to find the rest."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    path = run_dir / RESULTS
    if path.exists():
        console.print()
        results, responses = json.loads(path.read_text()), run_dir / "evaluate" / "responses.jsonl"
        if responses.exists():
            assert config.evaluation is not None  # it was evaluated
            columns = config.evaluation.columns
            console.print(results_table(results, with_auc(columns, results, config.judge.name)))
            for table in second_opinions(results, columns):
                console.print(table)
            for line in [*not_measured(results), *beside(results)]:
                console.print(line, soft_wrap=True, highlight=False)
        for table in [] if config.method.tables is None else resolve(config.method.tables)(results):
            console.print(table)
        every = f"   every response: {responses}" if responses.exists() else ""
        console.print(f"results: {path}{every}", soft_wrap=True)
    offline = sorted((run_dir / "wandb").glob("offline-run-*")) if (run_dir / "wandb").exists() else []
    if offline:
        console.print(
            f"W&B: {len(offline)} offline runs; upload with: python -m trainer.tracking.sync {run_dir}", soft_wrap=True
        )
