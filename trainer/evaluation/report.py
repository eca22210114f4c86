"""The comparison as a table that a person reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from trainer.config.bases import Column, SuiteSection
from trainer.config.run import RunConfig
from trainer.dotted import resolve
from trainer.pipeline.places import RESULTS
from trainer.terminal import table_console


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


def listed(results: dict[str, Any], suite: SuiteSection) -> Table | None:
    """One row per metric of a set or a task, one column per model; None where there are not several."""
    heads = {head for member in suite.members.values() for head in member.listed}
    shown = {metric for _, metric in suite.columns}
    names = dict.fromkeys(name for metrics in results["models"].values() for name in metrics if name not in shown)
    chosen = [name for name in names if name.split("/")[0] in heads and name.split("/")[1:2] not in ([], ["config"])]
    if len(chosen) == len({name.split("/")[0] for name in chosen}):  # one set of each: what the other table says
        return None
    table = Table(box=box.SIMPLE_HEAD, title="by set and task", title_justify="left")
    table.add_column("metric", overflow="fold")
    for label in results["models"]:
        table.add_column(label, justify="right", no_wrap=True)
    for name in chosen:
        table.add_row(name, *(cell(metrics.get(name)) for metrics in results["models"].values()))
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
    """What stands beside the numbers of each judge: how good it is, what it took; of a further one what it did not measure."""
    lines = []
    for name, judge in results.get("judges", {}).items():
        facts = judge["facts"]
        lines += [f"judged by {name}: {line}" for line in not_measured({"models": judge.get("models", {})})]
        if "auc" in facts:
            auc = facts["auc"]
            lines.append(f"{name}: AUC {cell(auc)} on responses of {', '.join(facts['auc_on'])} (n = {auc['n']:,})")
        if "requests" in facts:
            cost = "" if facts["dollars_now"] is None else f", ${facts['dollars_now']:,.2f}"
            tokens = f"{facts['prompt_tokens']:,} tokens of prompts and {facts['completion_tokens']:,} of replies"
            lines.append(f"{name}: {facts['requests']:,} replies, {tokens}; asked this time: {facts['requests_now']:,}{cost}")
    return lines


def _of_suite(results: dict[str, Any], suite: SuiteSection | None, judge: str) -> list[Table]:
    if suite is None:
        return []
    of_columns = any(column in metrics for metrics in results["models"].values() for _, column in suite.columns)
    judged = with_auc(suite.columns, results, judge)
    tables = [results_table(results, judged) if of_columns else None, listed(results, suite)]
    return [table for table in tables if table is not None] + second_opinions(results, suite.columns)


def print_report(config: RunConfig, run_dir: Path) -> None:
    """Print the table of a finished run and where to find the rest."""
    console = table_console()
    path = run_dir / RESULTS
    if path.exists():
        console.print()
        results, responses = json.loads(path.read_text()), run_dir / "evaluate" / "responses.jsonl"
        for table in _of_suite(results, config.evaluation, config.judge.name):
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
