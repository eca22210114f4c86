"""The models of a comparison against each other, two by two, with the correction for having asked so often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from trainer.compare.comparison import Cell, Contrast, Metric, Row
from trainer.compare.responses import Answers
from trainer.compare.rows import BASE, OWN
from trainer.compare.statistics import Found, holm, mcnemar, over_seeds, paired_bootstrap
from trainer.results.source import Source

ALL_PAIRS = 10  # models up to which each is compared with each; of more, all are compared with the first
_COST = "cost/"


def pairs_of(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Every base with the models of its settings, and those models with each other."""
    own = [row for row in rows if row.role == OWN]
    bases = [(base, row) for base in rows if base.role == BASE for row in own if set(row.runs) <= set(base.runs)]
    return bases + (list(combinations(own, 2)) if len(own) <= ALL_PAIRS else [(own[0], row) for row in own[1:]])


def contrasts_of(
    rows: Sequence[Row], metrics: Sequence[Metric], cells: Sequence[Cell], answers: Mapping[str, Answers],
    runs: Mapping[str, Source],
) -> list[Contrast]:  # fmt: skip
    """Every test that can be made, with p-values after Holm's correction over all of one kind."""
    of_cell = {(cell.row, cell.metric): cell for cell in cells}
    found = []
    for a, b in pairs_of(rows):
        for metric in metrics:
            if (test := _over_prompts(metric, answers[a.key], answers[b.key])) is not None:
                found.append(_contrast(metric, a, b, "prompts", test))
            if metric.headline and not metric.name.startswith(_COST):
                first, second = (_by_seed(of_cell.get((row.key, metric.name)), runs) for row in (a, b))
                if (test := over_seeds(first, second)) is not None:
                    found.append(_contrast(metric, a, b, "seeds", test))
    for over in ("prompts", "seeds"):
        places = [place for place, one in enumerate(found) if one.over == over]
        for place, p in zip(places, holm([found[place].p for place in places]), strict=True):
            found[place] = replace(found[place], p_holm=p)
    return found


def _contrast(metric: Metric, a: Row, b: Row, over: str, test: Found) -> Contrast:
    return Contrast(metric.name, a.key, b.key, over, *test, p_holm=test.p)


def _over_prompts(metric: Metric, a: Answers, b: Answers) -> Found | None:
    """On the prompts that both have answered: McNemar's test of an outcome where each was asked once, a bootstrap of scores,
    and of means over several seeds."""
    first, second = a.values.get(metric.name, {}), b.values.get(metric.name, {})
    groups = {
        name: [(group[key], second[name][key]) for key in group if key in second[name]]
        for name, group in first.items()
        if name in second
    }
    groups = {name: pairs for name, pairs in groups.items() if pairs}
    if not groups:
        return None
    pairs = [pair for group in groups.values() for pair in group]
    if metric.unit == "share" and all(len(x) == 1 and len(y) == 1 for x, y in pairs):
        return mcnemar([bool(x[0]) for x, _ in pairs], [bool(y[0]) for _, y in pairs])
    low, high = metric.range
    assert low is not None and high is not None  # of shares and scores
    differences = {name: [sum(y) / len(y) - sum(x) / len(x) for x, y in group] for name, group in groups.items()}
    return paired_bootstrap(differences, high - low)


def _by_seed(cell: Cell | None, runs: Mapping[str, Source]) -> dict[int, float]:
    """Seed -> value."""
    if cell is None:
        return {}
    return {runs[key].seed: one.value for key, one in cell.by_run.items() if one.value is not None}
