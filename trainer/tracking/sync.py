"""Upload what W&B wrote offline: `python -m trainer.tracking.sync RUN_DIR...`, on a machine with a network.

The real `wandb sync` uploads. This says what to upload, in which order, and how. A stage that was interrupted left
several pieces with one W&B id, and `wandb sync` alone lets each piece replace the one before it on the server: it has
to be told to resume. It also marks a piece as done that is still being written to, so a stage must have finished first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.load import read_config
from trainer.errors import ConfigError
from trainer.pipeline.manifest import MANIFEST
from trainer.pipeline.places import METRICS_FILE, STEP
from trainer.pipeline.run import CONFIG
from trainer.terminal import prepare
from trainer.tracking.server import has_key, server_url, why_unreachable
from trainer.tracking.tracker import LOST, WANDB_ID, begin, read_summary


@dataclass(frozen=True)
class Piece:
    """One directory that W&B wrote offline: all of a stage, or what one start of it logged.

    Attributes:
        stage: the stage with this W&B id; None when it has been redone under another id since.
    """

    directory: Path
    stage: str | None

    @property
    def uploaded(self) -> bool:
        return any(self.directory.glob("*.wandb.synced"))  # wandb's own mark


def pieces_of(run_dir: Path) -> list[Piece]:
    """Every piece of a run, in the order in which they were written."""
    stages = {path.read_text().strip(): path.parent.name for path in run_dir.glob(f"*/{WANDB_ID}")}
    directories = sorted((run_dir / "wandb").glob("offline-run-*-*"))
    return [Piece(directory, stages.get(directory.name.rsplit("-", 1)[1])) for directory in directories]


def still_open(run_dir: Path, pieces: Sequence[Piece]) -> list[Piece]:
    """The last piece of each stage that has not finished: somebody may be writing to it."""
    last = {piece.stage: piece for piece in pieces if piece.stage is not None}
    return [piece for stage, piece in last.items() if not (run_dir / str(stage) / MANIFEST).exists()]


def command_for(piece: Piece) -> list[str]:
    return [sys.executable, "-P", "-m", "wandb", "sync", str(piece.directory)]


def upload(piece: Piece, resume: bool = True) -> str | None:
    """Upload one piece. Returns None, or why it was not uploaded; wandb's own words are on the terminal then.

    Args:
        resume: go on after what the server has of this id, in place of replacing it.
    """
    environment = {
        **os.environ,
        **({"WANDB_RESUME": "allow"} if resume else {}),
        "WANDB_DIR": str(piece.directory.parents[1]),  # where wandb writes its log of the upload
    }
    code = subprocess.run(command_for(piece), env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    if piece.uploaded:  # the exit code is 0 as well when wandb gave up
        return None
    return f"wandb sync ended with exit code {code} and did not finish this piece"


def lost_stages(run_dir: Path) -> list[Path]:
    """The directories of stages of which W&B lacks something: it was killed, hung, or had no room."""
    return sorted(path.parent for path in run_dir.glob(f"*/{LOST}"))


def repair(run_dir: Path, stage_dir: Path) -> str | None:
    """Write a stage anew for W&B from its own record, and let that replace what the server has. Returns None, or why not.

    Raises:
        ConfigError: the run's config cannot be read.
    """
    stage, identity = stage_dir.name, (stage_dir / WANDB_ID).read_text().strip()
    there = set(pieces_of(run_dir))
    try:
        run = begin(read_config(run_dir / CONFIG), run_dir, stage, identity, "offline", resume=False)
        for step, row in _rows(stage_dir / METRICS_FILE).items():
            run.log({**row, STEP: step}, step=step)
        run.summary.update(read_summary(stage_dir))
        run.finish(exit_code=0 if (stage_dir / MANIFEST).exists() else 1)
    except Exception as error:  # wandb's own are of many kinds
        return f"{type(error).__name__}: {error}"
    (whole,) = set(pieces_of(run_dir)) - there
    if (reason := upload(whole, resume=False)) is not None:
        shutil.rmtree(whole.directory, ignore_errors=True)
        return reason
    for piece in there:
        if piece.stage == stage:
            (piece.directory / f"run-{identity}.wandb.synced").touch()  # wandb's own mark: what was in it is there
    (stage_dir / LOST).unlink()
    return None


def _rows(path: Path) -> dict[int, dict[str, Any]]:
    """Step -> what was logged at it, in the order of the steps; what was logged later counts."""
    found: dict[int, dict[str, Any]] = {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError):  # a line that was cut short
            row = json.loads(line)
            found.setdefault(row.pop("step"), {}).update(row)
    return dict(sorted(found.items()))


def sync_run(run_dir: Path, unfinished: bool) -> bool:
    """Upload what is not yet uploaded, and say what was done. Returns whether nothing is left to do.

    Args:
        unfinished: also upload the last piece of a stage that has not finished.
    """
    complete = True
    for stage_dir in lost_stages(run_dir):
        line = f"{run_dir.name} · {stage_dir.name}: W&B lacks something"
        if not unfinished and not (stage_dir / MANIFEST).exists():
            print(f"{line}, and it has not finished; if nothing runs there, add --unfinished", flush=True)
            complete = False
            continue
        reason = repair(run_dir, stage_dir)
        complete = complete and reason is None
        print(f"{line}: {'written anew and uploaded' if reason is None else f'NOT repaired: {reason}'}", flush=True)
    pieces = [piece for piece in pieces_of(run_dir) if piece.stage not in {path.name for path in lost_stages(run_dir)}]
    held = [] if unfinished else still_open(run_dir, pieces)
    broken = set()
    for piece in pieces:
        line = f"{run_dir.name} · {piece.stage or 'a stage since redone'} · {piece.directory.name}"
        identity = piece.directory.name.rsplit("-", 1)[1]
        if piece.uploaded:
            print(f"{line}: uploaded before", flush=True)
        elif identity in broken:  # later steps must not reach the server before earlier ones
            print(f"{line}: waits for the piece before it", flush=True)
        elif piece in held:
            print(f"{line}: left, for {piece.stage} has not finished; if nothing runs there, add --unfinished", flush=True)
            complete = False
        elif (reason := upload(piece)) is not None:
            print(f"{line}: NOT uploaded: {reason}", flush=True)
            broken.add(identity)
            complete = False
        else:
            print(f"{line}: uploaded", flush=True)
    if not pieces:
        print(f"{run_dir.name}: W&B wrote nothing offline here", flush=True)
    return complete


def sync(run_dirs: Sequence[Path], unfinished: bool) -> bool:
    """Upload several runs. Returns whether nothing is left to do.

    Raises:
        ConfigError: a directory is not there, W&B cannot be reached, or there is no key for it.
    """
    if missing := [str(path) for path in run_dirs if not path.is_dir()]:
        raise ConfigError([f"{path}: no such run directory; give directories such as runs/NAME." for path in missing])
    url = server_url()
    if not has_key(url):
        raise ConfigError(f"no W&B key for {url}; run `wandb login --host {url}`, or set WANDB_API_KEY.")
    if reason := why_unreachable(url):
        raise ConfigError(f"W&B at {url} cannot be reached ({reason}); run this where there is a network: a login node, say.")
    return all([sync_run(path, unfinished) for path in run_dirs])  # a list: one failed run does not hold up the next


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.tracking.sync", description="Upload offline W&B runs.")
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="for example runs/first")
    parser.add_argument(
        "--unfinished", action="store_true", help="also the last piece of stages that have not finished; nothing may run there"
    )
    given = parser.parse_args(arguments)
    try:
        return 0 if sync(given.run_dirs, given.unfinished) else 1
    except ConfigError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nstopped; the same command uploads the rest", file=sys.stderr)
        return 130


if __name__ == "__main__":
    prepare()
    sys.exit(main())
