"""Published rows and ours, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.compare.comparison import Comparison, Metric
from trainer.compare.text import cell_text, heading, number
from trainer.reproduce.published import Table
from trainer.vocabulary import measure_of

AREA = "guardrail/auc"


@dataclass(frozen=True)
class Shown:
    """A table in words. rows: name, source (`paper` or `here`), model, hardware, then the columns."""

    headings: list[str]
    rows: list[list[str]]


def shown(table: Table, found: Comparison | None) -> Shown:
    """Every published row, each followed by ours where there is one.

    Args:
        found: our runs; None where there are none yet.
    """
    metrics = _columns(table, found)
    rows = []
    for line in table.lines:
        published = [number(line.values[m.name], m.unit) if m.name in line.values else "-" for m in metrics]
        rows.append([line.name, f"paper, arXiv {table.paper}", line.model, "not stated here", *published])
        rows += _ours(line.ours, line.name, metrics, found) if found is not None and line.ours else []
    return Shown(["row", "source", "model", "hardware", *map(heading, metrics)], rows)


def _columns(table: Table, found: Comparison | None) -> list[Metric]:
    ours = [metric.name for metric in found.metrics] if found is not None else []
    published = [name for line in table.lines for name in line.values]
    names: list[str] = []
    for column in table.columns:
        if column != AREA:
            names.append(column)
            continue
        names += [name for name in published if name.startswith(f"{AREA}/")]
        names += [f"{AREA}/{name.split('/', 3)[3]}" for name in ours if name.startswith(f"{AREA}/")]
    known = [measure_of(name) for name in dict.fromkeys(names)]
    return [Metric(m.name, m.title, m.direction, m.unit, m.range, m.suite, True) for m in known]


def _ours(label: str, name: str, metrics: Sequence[Metric], found: Comparison) -> list[list[str]]:
    """The model of this label, or the guardrail, whose metrics are those of the base that it reads."""
    cells = {(cell.row, cell.metric): cell for cell in found.cells}
    runs = {run.key: run for run in found.runs}
    rows = []
    for row in found.rows:
        guardrail = f"{AREA}/{label}/"
        named = {m.name: m.name.replace(f"{AREA}/", guardrail) if row.label != label else m.name for m in metrics}
        shown = [cell_text(cells.get((row.key, named[m.name])), m) for m in metrics]
        measured = row.label == label or any((row.key, one) in cells for one in named.values() if one.startswith(guardrail))
        if not measured or all(text == "-" for text in shown):
            continue
        if row.label != label:
            shown = [text if named[m.name].startswith(guardrail) else "-" for text, m in zip(shown, metrics, strict=True)]
        first = runs[row.runs[0]]
        seeds = ", ".join(str(runs[key].seed) for key in row.runs)
        source = f"here, seed{'s' if len(row.runs) > 1 else ''} {seeds}, commit {first.provenance.get('commit', '-')}"
        rows.append([name, source, first.provenance["model"], first.provenance.get("hardware", "-"), *shown])
    return rows
