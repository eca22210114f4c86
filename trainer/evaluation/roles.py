"""What the models of a run's results are to one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.config.run import RunConfig


def roles_of(config: RunConfig, labels: Sequence[str]) -> dict[str, Any]:
    """`own` is the label of the model that the run was for, `base` that of the one which shows its gain and its price, None
    where it was not asked; `untrained` are those of models with the base's weights, which are the same for every seed."""
    untrained = {c.label for c in config.method.contenders(config) if c.weights == "base"}
    return {
        "own": config.method.own(config, labels),
        "base": reference if (reference := config.method.reference()) in labels else None,
        "untrained": [label for label in labels if label in untrained],
    }
