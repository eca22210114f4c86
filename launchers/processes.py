"""Start the ranks of this machine, watch them, and end all of them when one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from launchers.allocator import kept_memory
from trainer.errors import Interrupted
from trainer.stopping import STOP_SIGNALS

_POLL = 0.1  # seconds


@dataclass(frozen=True)
class World:
    """Where the ranks of this machine stand among all ranks.

    Attributes:
        first_rank: the rank of local rank 0.
        local_size, size: ranks on this machine, and on all.
        address, port: where rank 0 listens for the others.
    """

    local_size: int
    size: int
    first_rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0


def rank_environment(local_rank: int, world: World) -> dict[str, str]:
    """What a rank needs to find the others (torch's env:// rendezvous), how many threads it may use, and on a CPU how memory is
    kept."""
    threads = max(1, (os.cpu_count() or 1) // world.local_size)
    defaults = {"OMP_NUM_THREADS": str(threads)}
    if world.local_size == world.size:
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    ranks = {
        "RANK": str(world.first_rank + local_rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(world.size),
        "LOCAL_WORLD_SIZE": str(world.local_size),
        "MASTER_ADDR": world.address,
        "MASTER_PORT": str(world.port),
    }
    return {**defaults, **kept_memory(os.environ), **os.environ, **ranks}


def start_rank(run_dir: Path, stage: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """One rank, in a process group of its own: Ctrl-C reaches the launcher alone, which then stops the ranks in order."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.worker", str(run_dir), stage],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def run_ranks(run_dir: Path, stage: str, world: World, grace: float) -> dict[int, int]:
    """Start the ranks of this machine and wait for them. TERM and USR2 to this process are passed on to them.

    Args:
        grace: seconds between TERM and KILL for the remaining ranks once one has failed.

    Returns:
        rank -> exit code of those that ended badly of themselves; empty when all did well.
    """
    errors = run_dir / stage / "errors"
    ranks: list[subprocess.Popen[bytes]] = []
    passed_on: set[int] = set()

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        passed_on.add(signum)
        for process in ranks:
            if process.poll() is None:
                os.killpg(process.pid, signum)

    previous = {number: signal.signal(number, pass_on) for number in STOP_SIGNALS}
    try:
        for local_rank in range(world.local_size):
            if passed_on:
                break
            ranks.append(start_rank(run_dir, stage, rank_environment(local_rank, world)))
        while any(p.poll() is None for p in ranks):
            if any(p.poll() not in (None, 0) for p in ranks):
                break
            time.sleep(_POLL)
    finally:
        failed = {world.first_rank + i: int(p.returncode) for i, p in enumerate(ranks) if p.poll() not in (None, 0)}
        if failed and not any(errors.iterdir()):
            time.sleep(5 * _POLL)  # a rank that raised is about to say why
        _end(ranks, grace)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if passed_on and not failed:  # not all were started, or they had finished: what comes next must not start either
        failed[world.first_rank] = Interrupted.exit_code
    # A rank that had no handler yet when our signal reached it was interrupted, not killed.
    return {rank: Interrupted.exit_code if -code in passed_on else code for rank, code in failed.items()}


def _end(ranks: list[subprocess.Popen[bytes]], grace: float) -> None:
    alive = [p for p in ranks if p.poll() is None]
    for process in alive:
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
