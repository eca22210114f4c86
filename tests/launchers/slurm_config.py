"""A checked config for launcher=slurm, for the tests of what is rendered from it."""

from __future__ import annotations

from typing import Any

from trainer.config.load import load_config
from trainer.config.schema import RunConfig


def slurm_config(name: str = "first", **launcher: Any) -> RunConfig:
    return load_config(
        {
            "run": {"name": name},
            "method": {"name": "cosalign"},
            "model": {"path": "sandbox"},
            "data": {"format": "sandbox"},
            "trainer": {"train_batch_size": 48, "per_device_train_batch_size": 1},
            "launcher": {"name": "slurm", "python": "/shared/keel/bin/python", **launcher},
        }
    )
