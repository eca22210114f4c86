"""Processes on this machine, as a section of a config."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from launchers.outcome import prepare_directories, reason_of
from launchers.processes import World, run_ranks
from trainer.config.bases import LauncherSection
from trainer.config.section import section
from trainer.config.sections import Gpu


@section
class LocalLauncher(LauncherSection):
    """Processes on this machine.

    processes: how many; one per GPU, or any number on CPU.
    gpu: which GPU a process has, for `plan` to compare with; null where there is none, or it does not matter.
    grace: seconds between asking the other ranks to stop and killing them, when one has failed.
    """

    name: Literal["local"] = "local"
    processes: int = Field(1, gt=0)
    gpu: Gpu | None = None
    grace: float = Field(5.0, ge=0)

    more: ClassVar[str] = "processes"

    def world_size(self, stage: str) -> int:
        return self.processes

    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        size = self.processes if distributed else 1
        prepare_directories(run_dir, stage)
        codes = run_ranks(run_dir, stage, World(local_size=size, size=size, port=free_port()), self.grace)
        if codes:
            raise reason_of(run_dir, stage, size, codes)

    def wants_gpus(self, stage: str | None = None) -> bool | None:
        return True if self.gpu is not None else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
