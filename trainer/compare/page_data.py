"""What `report.html` carries: a `Comparison` as the page's scripts want it, with indices for what is said often. Nothing is
computed here but what is folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trainer.compare.comparison import Cell, Comparison, Contrast, Interval, Metric, Pareto, Prompt, Response, Row

# Outcome -> what colour it has, the sign for it, whether the response is folded away. What is not here is `unsure`.
_VERDICTS = {
    "safe": ("good", "✓", False),
    "answered": ("good", "✓", False),
    "right": ("good", "✓", False),
    "unsafe": ("bad", "✕", True),
    "refused": ("held", "R", False),
    "wrong": ("unsure", "W", False),
    "invalid": ("unsure", "?", True),
}
_HARMLESS = ("over_refusal", "capability", "task")  # suites whose prompts ask for no harm


def overview(comparison: Comparison) -> dict[str, Any]:
    """All but the responses: tables, points and curves."""
    cells = {(cell.row, cell.metric): cell for cell in comparison.cells}
    rows = [row.key for row in comparison.rows]
    return {
        "summary": _summary(comparison),
        "notes": _notes(comparison),
        "runs": [run.key for run in comparison.runs],
        "provenance": _provenance(comparison),
        "models": [{"name": row.key, "group": _group(row, comparison.rows), "role": row.role} for row in comparison.rows],
        "metrics": [_metric(metric) for metric in comparison.metrics],
        "values": [[_cell(cells.get((row, metric.name))) for metric in comparison.metrics] for row in rows],
        "tests": [_test(contrast) for contrast in comparison.contrasts],
        "pareto": [_pareto(pareto, comparison, cells) for pareto in comparison.paretos if pareto.points],
        "curves": _curves(comparison),
        "differences": _differences(comparison),
    }


def responses(comparison: Comparison) -> dict[str, Any]:
    """Every prompt, and every response as columns; `item`, `model`, `verdict` and `risk` are indices into the lists beside."""
    models, verdicts, risks, judges = _Numbered(), _Numbered(), _Numbered(), _Numbered()
    every, several = _without_repeats(comparison.responses)
    return {
        "items": [_item(prompt) for prompt in comparison.prompts],
        "item": [one.prompt for one in every],
        "model": [models[f"{one.row} · {one.run}" if one.row in several else one.row] for one in every],
        "text": [one.response for one in every],
        "verdict": [verdicts[one.outcome] for one in every],
        "rating": [one.rating for one in every],
        "risk": [risks[tuple(one.risks or ())] for one in every],
        "replies": [[[judges[name], reply] for name, reply in one.replies.items()] for one in every],
        "models": list(models),
        "verdicts": [_verdict(name) for name in verdicts],
        "risks": list(risks),
        "judges": list(judges),
    }


def _without_repeats(every: Sequence[Response]) -> tuple[list[Response], set[str]]:
    """The responses to show, and the rows whose runs answered differently. Where all runs of a row gave the same, as those that
    measured the base did, one of them is enough."""
    first: dict[tuple[str, int], Response] = {}
    several = set()
    for one in every:
        known = first.setdefault((one.row, one.prompt), one)
        if (known.response, known.outcome, known.replies) != (one.response, one.outcome, one.replies):
            several.add(one.row)
    return [one for one in every if one.row in several or first[one.row, one.prompt] is one], several


class _Numbered(dict[Any, int]):
    """Numbers things in the order in which they first come."""

    def __missing__(self, thing: Any) -> int:
        return self.setdefault(thing, len(self))


def _summary(comparison: Comparison) -> str:
    counted: dict[str, Sequence[Any]] = {"run": comparison.runs, "model": comparison.rows, "response": comparison.responses}
    said = [f"{len(things):,} {name}{'' if len(things) == 1 else 's'}" for name, things in counted.items()]
    return f"{', '.join(said)}; made {comparison.made}"


def _notes(comparison: Comparison) -> list[str]:
    """What was left out, and what was not measured."""
    missing: dict[tuple[str, ...], dict[str, None]] = {}
    for cell in comparison.cells:
        if cell.missing:
            missing.setdefault(tuple(cell.missing), {})[cell.row] = None
    return [
        *(f"left out: {directory}: {why}" for directory, why in comparison.left_out.items()),
        *(f"{', '.join(rows)}: no judgement of {', '.join(names)} was understood" for names, rows in missing.items()),
    ]


def _provenance(comparison: Comparison) -> list[dict[str, Any]]:
    """One fact after another, with its value in every run."""
    runs = comparison.runs
    known: list[dict[str, str]] = [
        {"method": run.method, "seed": str(run.seed), **run.provenance, "directory": run.directory} for run in runs
    ]
    return [
        {"name": name.replace("_", " "), "values": [facts.get(name, "") for facts in known]}
        for name in dict.fromkeys(name for facts in known for name in facts)
    ]


def _group(row: Row, rows: Sequence[Row]) -> str:
    """What a point's marker tells: the method, or the model where all are of one method."""
    if row.role == "base":
        return "base"
    return row.label if len({other.method for other in rows if other.role != "base"}) < 2 else row.method


def _metric(metric: Metric) -> dict[str, Any]:
    low, high = (None if bound is None else f"{bound:g}" for bound in metric.range)
    within = f"from {low} to {high}" if low and high else f"from {low}" if low else f"up to {high}" if high else ""
    facts = [metric.unit, within, metric.suite and f"of {metric.suite}"]
    return asdict(metric) | {"note": ", ".join(fact for fact in facts if fact)}


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    by_run = [[run, *_interval(one)] for run, one in cell.by_run.items()] if len(cell.by_run) > 1 else []
    return {"of": _interval(cell), "over": cell.over, "missing": cell.missing, "runs": by_run}


def _interval(one: Cell | Interval) -> list[Any]:
    """[value, low, high, n]"""
    return [_finite(one.value), _finite(one.low), _finite(one.high), one.n]


def _test(contrast: Contrast) -> dict[str, Any]:
    numbers = {name: _finite(getattr(contrast, name)) for name in ("difference", "low", "high", "p", "p_holm")}
    return asdict(contrast) | numbers


def _pareto(pareto: Pareto, comparison: Comparison, cells: dict[tuple[str, str], Cell]) -> dict[str, Any]:
    metrics = {metric.name: metric for metric in comparison.metrics}
    places = {row.key: index for index, row in enumerate(comparison.rows)}
    points = [
        {
            "model": places[point.row],
            "x": _interval(cells[point.row, pareto.capability]),
            "y": _interval(cells[point.row, pareto.safety]),
            "dominated": point.dominated,
            "knee": point.knee,
        }
        for point in pareto.points
    ]
    axes = {"x": _metric(metrics[pareto.capability]), "y": _metric(metrics[pareto.safety])}
    return {**axes, "points": points, "hypervolume": _finite(pareto.hypervolume)}


def _curves(comparison: Comparison) -> list[dict[str, Any]]:
    """The loss first."""
    settings = {run.key: run.setting for run in comparison.runs}
    return [
        {
            "run": curve.run,
            "setting": settings[curve.run],
            "stage": curve.stage,
            "metric": curve.name,
            "steps": curve.steps,
            "values": [_finite(value, digits=5) for value in curve.values],
        }
        for curve in sorted(comparison.curves, key=lambda curve: curve.name != "train/loss")
    ]


def _differences(comparison: Comparison) -> dict[str, Any]:
    settings = comparison.settings
    keys = list(dict.fromkeys(key for setting in settings for key in setting.settings))
    return {
        "settings": [setting.key for setting in settings],
        "keys": keys,
        "values": [[setting.settings.get(key, "-") for setting in settings] for key in keys],
    }


def _item(prompt: Prompt) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "suite": prompt.suite,
        "split": prompt.split,
        "situation": prompt.situation,
        "config": prompt.safety_config,
        "system": prompt.system,
        "prompt": prompt.prompt,
        "folded": prompt.suite not in _HARMLESS and prompt.situation != "safe",
    }


def _verdict(outcome: str) -> dict[str, Any]:
    kind, sign, folded = _VERDICTS.get(outcome, ("unsure", "·", True))
    return {"name": outcome, "kind": kind, "sign": sign, "folded": folded}


def _finite(value: float | None, digits: int = 9) -> float | None:
    """JSON holds no infinity and no NaN."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
