"""Runs, as they were read, to a comparison."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product

from trainer.compare.comparison import Cell, Comparison, Curve, Pareto, Run
from trainer.compare.contrasts import contrasts_of
from trainer.compare.pareto import CAPABILITY, is_safety, pareto
from trainer.compare.responses import answers_of, shown
from trainer.compare.rows import cells_of, lines_of, metrics_of
from trainer.compare.settings import keys_of_runs, settings_of
from trainer.errors import ArtifactError, ConfigError
from trainer.results.source import Source

POINTS = 500  # of a curve, at most


def compare(sources: Sequence[Source], left_out: Mapping[str, str]) -> Comparison:
    """
    Args:
        sources: finished runs, of any methods.
        left_out: directory -> why it is not among them.

    Raises:
        ConfigError: there is none, or one is there twice.
    """
    _require_each_once(sources)
    left, found, kept = dict(left_out), {}, []
    for source in sources:
        try:
            found[source.where] = source.responses()
            kept.append(source)
        except ArtifactError as error:
            left[source.where] = str(error)
    if not kept:
        reasons = [f"{where}: {why}" for where, why in left.items()]
        raise ConfigError(reasons or "no run is given; give directories of runs or of sweeps, such as runs/NAME.")
    keys = keys_of_runs(kept)
    runs = dict(zip(keys, kept, strict=True))
    read = {key: found[source.where] for key, source in runs.items()}
    settings = settings_of(kept, keys)
    lines = lines_of(settings, runs)
    rows, metrics = [line.row for line in lines], metrics_of(lines)
    cells = cells_of(lines, metrics)
    prompts, responses = shown(lines, read)
    of_run = {key: setting.key for setting in settings for key in setting.runs}
    return Comparison(
        title=f"{len(kept)} run{'s' if len(kept) > 1 else ''} of {', '.join(dict.fromkeys(s.method for s in kept))}",
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        runs=[
            Run(key, one.name, one.where, one.method, one.seed, of_run[key], one.roles["own"], _provenance(one))
            for key, one in runs.items()
        ],
        left_out=left,
        settings=settings,
        metrics=metrics,
        rows=rows,
        cells=cells,
        contrasts=contrasts_of(rows, metrics, cells, answers_of(lines, read), runs),
        paretos=_paretos(cells),
        curves=[
            Curve(key, stage, name, *_thinned(points))
            for key, one in runs.items()
            for (stage, name), points in one.curves.items()
        ],
        prompts=prompts,
        responses=responses,
    )


def _require_each_once(sources: Sequence[Source]) -> None:
    """
    Raises:
        ConfigError: two are readings of the same run, which would count it twice.
    """
    seen: dict[str, Source] = {}
    problems = []
    for source in sources:
        if (other := seen.setdefault(source.identity, source)) is not source:
            problems.append(f"{source.where}: this is the same run as {other.where}, and would count twice; give it once.")
    if problems:
        raise ConfigError(problems)


def _provenance(source: Source) -> dict[str, str]:
    facts = source.facts
    named = {"model": facts.pop("base") or "random weights", "model content": facts.pop("base_content")}
    found = {**named, **facts, "processes": source.provenance.get("world_size")}
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _paretos(cells: Sequence[Cell]) -> list[Pareto]:
    values = {(cell.row, cell.metric): cell.value for cell in cells}
    safety_metrics = dict.fromkeys(cell.metric for cell in cells if is_safety(cell.metric))
    found = []
    for safety, capability in product(safety_metrics, CAPABILITY):
        at = {}
        for row in dict.fromkeys(cell.row for cell in cells):
            x, y = values.get((row, safety)), values.get((row, capability))
            if x is not None and y is not None:
                at[row] = (x, y)
        if len(at) > 1:
            found.append(pareto(safety, capability, at))
    return found


def _thinned(points: Mapping[int, float]) -> tuple[list[int], list[float]]:
    steps = sorted(points)
    chosen = steps[:: max(1, -(-len(steps) // POINTS))]
    return chosen, [points[step] for step in chosen]
