"""A checked config for launcher=slurm, for the tests of what is rendered from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launchers.slurm.section import SlurmLauncher
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.pipeline.chain import chain


def slurm_config(name: str = "first", **launcher: Any) -> RunConfig:
    return load_config(
        {
            "run": {"name": name},
            "method": {"name": "cosalign"},
            "model": {"path": "sandbox"},
            "data": {"format": "sandbox"},
            "trainer": {"train_batch_size": 48, "per_device_train_batch_size": 1},
            "judge": {"name": "exact"},
            "evaluation": {"benchmark": "sandbox"},
            "launcher": {"name": "slurm", "python": "/shared/keel/bin/python", **launcher},
        }
    )


def slurm_section(name: str = "first", **launcher: Any) -> SlurmLauncher:
    section = slurm_config(name, **launcher).launcher
    assert isinstance(section, SlurmLauncher)
    return section


def scripts_of(config: RunConfig, run_dir: Path) -> dict[str, str]:
    """What submitting this run would write."""
    scheduler = config.launcher.scheduler
    assert scheduler is not None
    return scheduler.script(config, run_dir, chain(config))
