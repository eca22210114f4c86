"""A run in this process, which has its libraries loaded already: seconds in place of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.schema import RunConfig
from trainer.run import carry_out
from trainer.stages.chain import stage_named
from trainer.stages.context import StageContext


class HereLauncher:
    """In place of the launcher that starts processes."""

    def __init__(self, config: RunConfig):
        self.config = config

    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        with StageContext(self.config, run_dir, stage, 0, 1) as context:
            stage_named(self.config, stage).run(context)


def run_here(cwd: Path, *overrides: str) -> Path:
    """One process without DeepSpeed and W&B, which would leave its mark on this process; returns the run's directory."""
    config = load_config(composed([*overrides, "deepspeed=none", "tracking.mode=disabled", f"paths.runs={cwd}"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.run.launcher_for", HereLauncher)
        return carry_out(config)
