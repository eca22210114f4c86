"""What it took to make each model that an evaluation compares, from what its stages have written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.config.stage import Stage
from trainer.evaluation.metrics import Metrics
from trainer.pipeline.cost import Cost, total
from trainer.pipeline.manifest import read_manifest

MEASURED = ("gpu_hours", "cpu_hours", "tokens", "peak_memory", "energy")


def costs_of(weights: str, stages: Sequence[Stage], run_dir: Path) -> Metrics:
    """The costs of a model as metrics without an interval: of the stage that it comes from and all before it; of one that comes
    from no stage, as the method makes it of several, of all that are no variants. What one of them has not counted is left out.

    Args:
        weights: as `Contender.weights`. The base costs nothing.
        stages: the run's, in order.
    """
    if weights == "base":
        return {}
    chosen = _before(weights, stages)
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


def _before(weights: str, stages: Sequence[Stage]) -> list[Stage]:
    """The stage of this name with all that it needs, or all that are no variants."""
    evaluated = [stage for stage in stages if stage.compared and stage.name != "evaluate"]
    wanted = {weights}
    if weights not in {stage.name for stage in evaluated}:
        wanted = {stage.name for stage in evaluated if stage.training is None or not stage.training.variant}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.after)
    return [stage for stage in stages if stage.name in wanted]
