"""Start the ranks of a stage on this machine, watch them, and end all of them when one fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from trainer.errors import ArtifactError, ConfigError, DataError, KeelError, StageFailed

_POLL = 0.1  # seconds
_ERRORS: dict[str, type[KeelError]] = {"ConfigError": ConfigError, "DataError": DataError, "ArtifactError": ArtifactError}


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What a rank needs to find the others (torch's env:// rendezvous), and settings that only matter on one machine."""
    threads = max(1, (os.cpu_count() or 1) // world_size)
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONUNBUFFERED": "1",
    }
    ranks = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return {**defaults, **os.environ, **ranks}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(run_dir: Path, stage: str, world_size: int, grace: float) -> None:
    """Run one stage on `world_size` local processes and wait for it.

    Rank 0 writes to this terminal; the other ranks write to `<stage>/logs/rank<N>.log`.

    Args:
        grace: seconds between TERM and KILL for the remaining ranks once one has failed.

    Raises:
        StageFailed, ConfigError, DataError: a rank failed; the text names the rank and its reason.
        KeyboardInterrupt: this process was asked to stop; the ranks were stopped first.
    """
    logs, errors = run_dir / stage / "logs", run_dir / stage / "errors"
    logs.mkdir(parents=True, exist_ok=True)
    errors.mkdir(exist_ok=True)
    for stale in errors.iterdir():
        stale.unlink()
    port = free_port()
    ranks: list[subprocess.Popen[bytes]] = []

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(signum).name)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        for rank in range(world_size):
            command = [sys.executable, "-m", "trainer.worker", str(run_dir), stage]
            log = None if rank == 0 else (logs / f"rank{rank}.log").open("ab")
            ranks.append(
                subprocess.Popen(
                    command,
                    env=rank_environment(rank, world_size, port),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the ranks in order
                )
            )
            if log is not None:
                log.close()
        while any(p.poll() is None for p in ranks):
            if any(p.poll() not in (None, 0) for p in ranks):
                break
            time.sleep(_POLL)
    finally:
        failed = [rank for rank, p in enumerate(ranks) if p.poll() not in (None, 0)]
        if failed and not any(errors.iterdir()):
            time.sleep(5 * _POLL)  # a rank that raised is about to say why
        _end(ranks, grace)
        signal.signal(signal.SIGTERM, previous)
    if failed:
        raise _reason(stage, failed, ranks, errors, logs)


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


def _reason(stage: str, failed: list[int], ranks: list[subprocess.Popen[bytes]], errors: Path, logs: Path) -> KeelError:
    """The first cause: a rank killed from outside, else the earliest error a rank wrote down."""
    for rank in failed:
        code = ranks[rank].returncode
        if code < 0 and not (errors / f"rank{rank}.json").exists():
            name = signal.Signals(-code).name
            hint = " (out of memory is the usual cause)" if name == "SIGKILL" else ""
            return StageFailed(
                f"stage {stage}: rank {rank} of {len(ranks)} was killed by {name}{hint}; the others were stopped."
            )
    written = [json.loads(path.read_text()) for path in errors.glob("rank*.json")]
    if not written:
        return StageFailed(f"stage {stage}: rank {failed[0]} ended with exit code {ranks[failed[0]].returncode}; see {logs}.")
    first = min(written, key=lambda e: (e["secondary"], e["time"]))
    if first["type"] in _ERRORS:
        return _ERRORS[first["type"]](first["message"])
    reason = f"stage {stage}: rank {first['rank']} of {len(ranks)}: {first['type']}: {first['message']}"
    return StageFailed(f"{reason}\n{first['traceback']}".rstrip())
