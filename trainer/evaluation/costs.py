"""What it took to make each model that an evaluation compares, from what its stages have written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trainer.config.run import RunConfig
from trainer.config.stage import Stage
from trainer.evaluation.metrics import Metrics
from trainer.pipeline.chain import chain
from trainer.pipeline.cost import Cost, total
from trainer.pipeline.manifest import read_manifest

MEASURED = ("gpu_hours", "cpu_hours", "tokens", "peak_memory", "energy")


def costs_of_models(config: RunConfig, weights: Mapping[str, str], run_dir: Path) -> dict[str, Metrics]:
    """Label -> its `costs_of`. weights: label -> the contender's weights."""
    stages = chain(config)
    return {label: costs_of(sources_of(config, of_label, stages), stages, run_dir) for label, of_label in weights.items()}


def sources_of(config: RunConfig, weights: str, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The stages that a contender's weights come from."""
    return (weights,) if weights in {stage.name for stage in stages} else config.method.comes_from(config, weights)


def costs_of(sources: Iterable[str], stages: Sequence[Stage], run_dir: Path) -> Metrics:
    """The costs of a model as metrics without an interval: of the stages that it comes from and of all before them. What one of
    them has not counted is left out.

    Args:
        sources: names of stages; none for the base, and where they are not known.
        stages: the run's, in order.
    """
    chosen = _before(sources, stages)
    costs = {}
    for stage in chosen:
        manifest = read_manifest(run_dir / stage.name)
        if manifest is None or manifest.cost is None:
            return {}
        costs[stage.name] = Cost(**manifest.cost)
    if not costs:
        return {}
    found = total(list(costs.values()))
    counted = {name: getattr(found, name) for name in MEASURED}
    if any(stage.trains and costs[stage.name].tokens is None for stage in chosen):
        del counted["tokens"]
    return {name: {"value": float(value), "ci95": None, "n": 1} for name, value in counted.items() if value is not None}


def _before(sources: Iterable[str], stages: Sequence[Stage]) -> list[Stage]:
    wanted = set(sources)
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.after)
    return [stage for stage in stages if stage.name in wanted]
