"""What a launcher is, and which one a config asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from trainer.config.schema import RunConfig, SlurmLauncher


class Launcher(Protocol):
    """Starts the ranks of one stage."""

    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        """Run a stage and wait for it: on all ranks, or on one process where it is not distributed.

        Rank 0 writes where this process writes; rank N writes to `<stage>/logs/rank<N>.log`.

        Raises:
            StageFailed, ConfigError, DataError, ArtifactError: a rank failed; the text names the rank and its reason.
            Interrupted: a signal asked the ranks to stop, and they saved what they had.
            KeyboardInterrupt: this process was stopped from the keyboard; the ranks were stopped first.
        """
        ...


def launcher_for(config: RunConfig) -> Launcher:
    """The launcher that starts ranks from where this process runs: on this machine, or in this Slurm allocation."""
    if isinstance(config.launcher, SlurmLauncher):
        from launchers.slurm.allocation import AllocationLauncher

        return AllocationLauncher(config.launcher)
    from launchers.local import LocalRanks

    return LocalRanks(config.launcher)
