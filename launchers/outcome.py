"""Why a stage ended: read from exit codes and from what the ranks wrote down in `<stage>/errors/`."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import (
    ArtifactError,
    BadLoss,
    ConfigError,
    DataError,
    DiskFull,
    Interrupted,
    KeelError,
    RankLost,
    StageFailed,
)

_ERRORS: dict[str, type[KeelError]] = {
    cls.__name__: cls for cls in (ArtifactError, BadLoss, ConfigError, DataError, DiskFull, Interrupted, StageFailed)
}


def prepare_directories(run_dir: Path, stage: str) -> tuple[Path, Path]:
    """The stage's directories for logs and for errors, the latter empty."""
    logs, errors = run_dir / stage / "logs", run_dir / stage / "errors"
    logs.mkdir(parents=True, exist_ok=True)
    errors.mkdir(exist_ok=True)
    for stale in errors.iterdir():
        stale.unlink()
    return logs, errors


def reason_of(run_dir: Path, stage: str, world_size: int, codes: Mapping[int, int]) -> KeelError:
    """The first cause: a rank killed from outside, else the earliest error that a rank wrote down.

    Args:
        codes: rank -> exit code of the ranks that ended badly before anyone stopped them; negative is a signal.
            May be empty where a launcher cannot tell (srun reports one code for all).
    """
    errors, logs = run_dir / stage / "errors", run_dir / stage / "logs"
    for rank, code in codes.items():
        if code < 0 and not (errors / f"rank{rank}.json").exists():
            name = signal.Signals(-code).name
            hint = " (out of memory is the usual cause)" if name == "SIGKILL" else ""
            return RankLost(f"stage {stage}: rank {rank} of {world_size} was killed by {name}{hint}; the others were stopped.")
    written = [error for path in sorted(errors.glob("rank*.json")) if (error := _read(path)) is not None]
    if not written and codes and set(codes.values()) == {Interrupted.exit_code}:
        return Interrupted(f"stage {stage}: stopped by a signal before it had begun; the same command continues.")
    if not written:
        ended = ", ".join(f"rank {rank} with exit code {code}" for rank, code in codes.items()) or "a rank"
        return RankLost(f"stage {stage}: {ended} ended without saying why; see {logs}.")
    first = min(written, key=lambda e: (e["secondary"], e["time"]))
    if first["type"] == "Hung":
        return RankLost(_hung(stage, world_size, written))
    if first["type"] in _ERRORS:
        return _ERRORS[first["type"]](first["message"])
    reason = f"stage {stage}: rank {first['rank']} of {world_size}: {first['type']}: {first['message']}"
    kind = RankLost if first["secondary"] or first["type"] == "Killed" else StageFailed  # nobody but its peers has told
    return kind(f"{reason}\n{first['traceback']}".rstrip())


def _read(path: Path) -> dict[str, Any] | None:
    """What a rank wrote down; None where it was cut short, by a full disk or a kill."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def _hung(stage: str, world_size: int, written: list[dict[str, Any]]) -> str:
    """Who held the others up: ranks that did not answer, else ranks that stood somewhere other than in a collective."""
    hung = {e["rank"]: e for e in written if e["type"] == "Hung"}
    silent = sorted(set(range(world_size)) - {e["rank"] for e in written})
    busy = sorted(rank for rank, e in hung.items() if not e["in_collective"])
    seconds = max(e["seconds"] for e in hung.values())
    lines = [f"stage {stage}: no step for {seconds:.0f} s, nor another sign of life (survival.hang_timeout)."]
    if silent:
        lines.append(f"did not answer at all: rank {', '.join(map(str, silent))} (stopped, or its node is gone).")
    for rank in busy or sorted(hung)[:1]:
        where = "stood outside every collective" if busy else "waited in a collective, as all that answered did"
        lines.append(f"rank {rank} {where}:\n{hung[rank]['traceback'].rstrip()}")
    return "\n".join(lines)
