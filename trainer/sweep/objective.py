"""The one number of a finished run that an optimising sweep is after."""

from __future__ import annotations

import json

from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.pipeline.places import RESULTS
from trainer.pipeline.run import run_directory
from trainer.suggest import did_you_mean


def objective_of(config: RunConfig) -> float | None:
    """The value of `run.objective` in the results of a finished run; None where the config names no objective.

    Raises:
        ConfigError: the results have no such number.
    """
    if config.run.objective is None:
        return None
    models = json.loads((run_directory(config) / RESULTS).read_text())["models"]
    known = {f"{model}/{metric}": entry["value"] for model, metrics in models.items() for metric, entry in metrics.items()}
    known = {name: value for name, value in known.items() if value is not None}  # a missing measurement is none
    if config.run.objective not in known:
        raise ConfigError(
            f"run.objective: the results have no {config.run.objective}; {did_you_mean(config.run.objective, known)}"
        )
    return float(known[config.run.objective])
