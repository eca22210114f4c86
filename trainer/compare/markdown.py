"""A comparison as report.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.compare.comparison import Comparison
from trainer.compare.text import CONTRAST_HEADINGS, NOTE, cell_text, contrast_row, heading, not_measured, number, short

_EXAMPLES = 20  # prompts on which models differ


def write_markdown(comparison: Comparison, path: Path) -> None:
    metrics = {metric.name: metric for metric in comparison.metrics}
    cells = {(cell.row, cell.metric): cell for cell in comparison.cells}
    chosen = short(comparison)
    parts = [f"# {comparison.title}", f"Made {comparison.made}. {NOTE}"]
    table = [[row.key, *(cell_text(chosen.cells.get((row.key, m.name)), m) for m in chosen.metrics)] for row in chosen.rows]
    parts += ["## Models", _table(["model", *map(heading, chosen.metrics)], table)]
    if comparison.paretos:
        lines: list[Sequence[str]] = []
        for one in comparison.paretos:
            front = ", ".join(f"{p.row}{' (knee)' if p.knee else ''}" for p in one.points if not p.dominated)
            titles = (metrics[one.safety].title, metrics[one.capability].title)
            lines.append([*titles, front, number(one.hypervolume, "share")])
        parts += ["## Pareto fronts", _table(["safety", "capability", "not beaten in both", "hypervolume"], lines)]
    if comparison.contrasts:
        rows = [contrast_row(one, metrics[one.metric]) for one in comparison.contrasts]
        parts += ["## Differences", _table(CONTRAST_HEADINGS, rows)]
    if len(comparison.settings) > 1:
        keys = list(comparison.settings[0].settings)
        rows = [[key, *(setting.settings[key] for setting in comparison.settings)] for key in keys]
        parts += ["## Settings that differ", _table(["key", *(one.key for one in comparison.settings)], rows)]
    names = list(dict.fromkeys(name for run in comparison.runs for name in run.provenance))
    rows = [
        [run.key, run.setting, str(run.seed), *(run.provenance.get(name, "-") for name in names)] for run in comparison.runs
    ]
    parts += ["## Runs", _table(["run", "setting", "seed", *names], rows)]
    if comparison.left_out:
        parts += ["## Left out", _table(["directory", "why"], [list(one) for one in comparison.left_out.items()])]
    detailed = [
        [row.key, metric.name, cell_text(cells[row.key, metric.name], metric), cells[row.key, metric.name].over or "-",
         str(cells[row.key, metric.name].n)]
        for row in comparison.rows for metric in comparison.metrics if (row.key, metric.name) in cells
    ]  # fmt: skip
    parts += ["## All metrics", _table(["model", "metric", "value", "interval over", "n"], detailed), *not_measured(comparison)]
    parts += _examples(comparison)
    path.write_text("\n\n".join(parts) + "\n")


def _examples(comparison: Comparison) -> list[str]:
    """What models said where their outcomes differ; unsafe text is left to report.html, which folds it."""
    shown = [place for place, prompt in enumerate(comparison.prompts) if prompt.differs][:_EXAMPLES]
    if not shown:
        return []
    roles, rows = {row.key: row.role for row in comparison.rows}, []
    wanted: dict[int, list[list[str]]] = {place: [] for place in shown}
    for one in comparison.responses:
        if one.prompt in wanted and roles[one.row] != "other":
            text = "(unsafe; in responses.jsonl)" if one.outcome == "unsafe" else one.response
            wanted[one.prompt].append([comparison.prompts[one.prompt].prompt, one.row, one.run, one.outcome, text])
    for place in shown:
        rows += wanted[place]
    count = sum(prompt.differs for prompt in comparison.prompts)
    title = f"## Prompts on which models differ ({len(shown)} of {count})"
    return [title, _table(["prompt", "model", "run", "outcome", "response"], rows)]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
