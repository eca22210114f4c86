"""The lines of the table, models over the seeds of their setting, and what stands in its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.compare.comparison import Cell, Interval, Metric, Row, Setting
from trainer.compare.statistics import t_interval
from trainer.record import fingerprint_of
from trainer.results.source import Entry, Source
from trainer.vocabulary import measure_of, order_of

OWN, BASE, OTHER = "own", "base", "other"


@dataclass(frozen=True)
class Line:
    """A row with the runs that it is of: key -> run. untrained: it has the base's weights, so that its runs are one
    measurement, made again."""

    row: Row
    runs: Mapping[str, Source]
    untrained: bool


def lines_of(settings: Sequence[Setting], runs: Mapping[str, Source]) -> list[Line]:
    """Every model of every setting. One that has the base's weights is the same for every seed, and for all settings that asked
    the same of the same base: it is one line, measured once."""
    untrained: dict[str, tuple[str, list[str]]] = {}  # identity -> (label, runs)
    for key, source in runs.items():
        for label in source.roles["untrained"]:
            untrained.setdefault(_identity(source, label), (label, []))[1].append(key)
    lines, done = [], set()
    for setting in settings:
        of_setting = {key: runs[key] for key in setting.runs}
        for label in dict.fromkeys(label for source in of_setting.values() for label in source.models):
            having = {key: source for key, source in of_setting.items() if label in source.models}
            first = next(iter(having.values()))
            again = label in first.roles["untrained"]
            of_one: str | None = setting.key
            if not again:
                key = f"{setting.key}/{label}"
            elif (identity := _identity(first, label)) in done:
                continue
            else:
                done.add(identity)
                having = {key: runs[key] for key in untrained[identity][1] if label in runs[key].models}
                same = sum(other == label for other, _ in untrained.values())
                key = label if same == 1 else f"{label} ({setting.key})"
                of_one = setting.key if set(having) <= set(setting.runs) else None
            row = Row(key, label, first.method if of_one else "", of_one, list(having), _role(first, label))
            lines.append(Line(row, having, again))
    return lines


def _identity(source: Source, label: str) -> str:
    """Of what is asked of a model without training, and of which."""
    asked, prompted = ("model", "evaluation", "judge", "generation"), None if label == "base" else source.config["method"]
    return fingerprint_of([label, source.facts["base_content"], prompted, {key: source.config.get(key) for key in asked}])


def _role(source: Source, label: str) -> str:
    return OWN if label == source.roles["own"] else BASE if label == source.roles["base"] else OTHER


def metrics_of(lines: Sequence[Line]) -> list[Metric]:
    """Every metric that some model has, in the order of the vocabulary."""
    names = {name for line in lines for source in line.runs.values() for name in source.models[line.row.label]}
    found = [measure_of(name) for name in sorted(names, key=order_of)]
    return [Metric(m.name, m.title, m.direction, m.unit, m.range, m.suite, m.headline) for m in found]


def cells_of(lines: Sequence[Line], metrics: Sequence[Metric]) -> list[Cell]:
    cells = []
    for line in lines:
        for metric in metrics:
            entries = {key: source.models[line.row.label].get(metric.name) for key, source in line.runs.items()}
            if known := {key: entry for key, entry in entries.items() if entry is not None}:
                cells.append(_cell(line.row.key, metric.name, known))
    return cells


def _cell(row: str, metric: str, entries: Mapping[str, Entry]) -> Cell:
    """Mean and t-interval over runs. Where all have the same value, whose spread over seeds says nothing, the widest of their
    intervals over prompts."""
    by_run = {key: _interval(entry) for key, entry in entries.items()}
    missing = list(dict.fromkeys(name for entry in entries.values() for name in entry["missing"]))
    known = [one for one in by_run.values() if one.value is not None]
    values = [one.value for one in known if one.value is not None]
    if not values:
        return Cell(row, metric, None, None, None, 0, "", missing, by_run)
    ends = t_interval(values)
    if ends is not None:
        return Cell(row, metric, float(np.mean(values)), *ends, len(values), "seeds", missing, by_run)
    widest = max(known, key=lambda one: -1.0 if one.low is None or one.high is None else one.high - one.low)
    over = "" if widest.low is None else "prompts"
    return Cell(row, metric, values[0], widest.low, widest.high, widest.n, over, missing, by_run)


def _interval(entry: Entry) -> Interval:
    low, high = entry["ci95"] or (None, None)
    return Interval(entry["value"], low, high, entry["n"])
