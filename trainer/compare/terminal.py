"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from trainer.compare.comparison import Comparison
from trainer.compare.text import CONTRAST_HEADINGS, NOTE, cell_text, contrast_row, heading, not_measured, number, short
from trainer.terminal import table_console

_WIDTH = 160  # where the output is not a terminal
_MOST = 20  # settings that differ, and tests, to show; the files have all
_PLACES = {"own": "what a run was for", "base": "what it is compared with"}


def print_comparison(comparison: Comparison) -> None:
    console = table_console(_WIDTH)
    found, metrics = short(comparison), {metric.name: metric for metric in comparison.metrics}
    console.print()
    if len(comparison.settings) > 1:
        keys = list(comparison.settings[0].settings)
        rows = [[key, *(setting.settings[key] for setting in comparison.settings)] for key in keys[:_MOST]]
        if len(comparison.settings) <= 6:
            _print(console, "settings that differ", ["key", *(setting.key for setting in comparison.settings)], rows)
        if len(keys) > _MOST or len(comparison.settings) > 6:
            console.print(f"{len(comparison.settings)} settings differ in {len(keys)} keys; report.md has all", soft_wrap=True)
    _print(
        console,
        comparison.title,
        ["model", *(heading(metric).replace(" ", "\n", 1) for metric in found.metrics)],
        [
            [row.key, *(cell_text(found.cells.get((row.key, m.name)), m).replace(" ", "\n", 1) for m in found.metrics)]
            for row in found.rows
        ],
    )
    for pareto in comparison.paretos:
        front = [point for point in pareto.points if not point.dominated]
        of_front = ", ".join(f"{one.row}{' (knee)' if one.knee else ''}" for one in front)
        names = f"{metrics[pareto.safety].title} and {metrics[pareto.capability].title}"
        console.print(f"not beaten in {names}: {of_front}; hypervolume {number(pareto.hypervolume, 'share')}", soft_wrap=True)
    by_p = sorted(comparison.contrasts, key=lambda one: one.p_holm)[:_MOST]
    if by_p:
        title = f"differences, those of the least p first ({len(by_p)} of {len(comparison.contrasts)})"
        _print(console, title, CONTRAST_HEADINGS, [contrast_row(one, metrics[one.metric]) for one in by_p])
    lines = [*not_measured(comparison)[:_MOST], *(f"left out: {where}: {why}" for where, why in comparison.left_out.items())]
    for line in [NOTE, *lines]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _print(console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for place, text in enumerate(headings):
        table.add_column(text, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
