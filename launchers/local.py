"""Start the ranks of a stage on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

from launchers.outcome import prepare_directories, reason_of
from launchers.processes import World, run_ranks
from trainer.config.schema import LocalLauncher


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalRanks:
    """Every rank a child of this process."""

    def __init__(self, settings: LocalLauncher):
        self.settings = settings

    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        size = self.settings.processes if distributed else 1
        prepare_directories(run_dir, stage)
        codes = run_ranks(run_dir, stage, World(local_size=size, size=size, port=free_port()), self.settings.grace)
        if codes:
            raise reason_of(run_dir, stage, size, codes)
