"""A run in this process, which has its libraries loaded already: seconds in place of minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchers.local.section import LocalLauncher
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.pipeline.chain import stage_named
from trainer.pipeline.context import StageContext
from trainer.pipeline.do import do
from trainer.pipeline.run import carry_out


def run_here(cwd: Path, *overrides: str) -> Path:
    """One process without DeepSpeed and W&B, which would leave its mark on this process; returns the run's directory."""
    config = load_config(composed([*overrides, "deepspeed=none", "tracking.mode=disabled", f"paths.runs={cwd}"]))

    def start(_launcher: LocalLauncher, run_dir: Path, stage: str, _distributed: bool) -> None:
        """In place of starting processes."""
        with StageContext(config, run_dir, stage_named(config, stage), 0, 1) as context:
            do(context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalLauncher, "start", start)
        return carry_out(config)
