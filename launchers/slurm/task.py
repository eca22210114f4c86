"""One Slurm task of a stage: `python -m launchers.slurm.task RUN_DIR STAGE rank|node GRACE`. Started by srun, never by hand.

A `rank` becomes the worker itself; a `node` starts the ranks of its node and waits for them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from launchers.outcome import reason_of
from launchers.processes import World, run_ranks
from launchers.slurm.ranks import node_environment, task_environment
from trainer.errors import Interrupted
from trainer.record import write_json
from trainer.stopping import STOP_SIGNALS


def one_rank(run_dir: Path, stage: str, _grace: float) -> int:
    """Does not return: this process becomes the worker."""
    worker = [sys.executable, "-m", "trainer.worker", str(run_dir), stage]
    os.execve(sys.executable, worker, {**os.environ, **task_environment(os.environ)})


def ranks_of_a_node(run_dir: Path, stage: str, grace: float) -> int:
    stopped = False

    def remember(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    for number in STOP_SIGNALS:  # until there are ranks to pass them on to
        signal.signal(number, remember)
    os.environ.update(node_environment(os.environ))
    local, size = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    first = int(os.environ["SLURM_PROCID"]) * local
    world = World(local, size, first, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if stopped:
        return Interrupted.exit_code
    codes = run_ranks(run_dir, stage, world, grace)
    if not codes:
        return 0
    for rank, code in codes.items():
        if code < 0:  # it could not say so itself
            write_json(run_dir / stage / "errors" / f"rank{rank}.json", killed(rank, -code))
    return reason_of(run_dir, stage, size, codes).exit_code


def killed(rank: int, number: int) -> dict[str, Any]:
    """The record of a rank that a signal ended, as the rank itself writes one for an error."""
    stopped = number in (signal.SIGTERM, signal.SIGUSR2)
    hint = " (out of memory is the usual cause)" if number == signal.SIGKILL else ""
    message = f"{signal.Signals(number).name}{hint}"
    kind = "Interrupted" if stopped else "Killed"
    return {"rank": rank, "time": time.time(), "type": kind, "message": message, "secondary": stopped, "traceback": ""}


if __name__ == "__main__":
    start = {"rank": one_rank, "node": ranks_of_a_node}[sys.argv[3]]
    sys.exit(start(Path(sys.argv[1]), sys.argv[2], float(sys.argv[4])))
