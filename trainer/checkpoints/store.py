"""Checkpoints on disk: complete or not there. Each is written under another name, hashed in a manifest, then renamed.

checkpoints/checkpoint-8/                   complete: its manifest names every file with size and SHA-256
checkpoints/latest                          the name of the newest one, for people
checkpoints/.writing-<attempt>/             one that is being written, or was when its run died
checkpoints/damaged-checkpoint-12/          one whose files no longer match its manifest: never loaded
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "checkpoint.json"
LATEST = "latest"
WRITING = ".writing-"
_NAME = re.compile(r"checkpoint-\d+", re.ASCII)
_READERS = 8  # threads: hashing releases the interpreter lock, and a parallel file system wants several readers


@dataclass(frozen=True)
class FileFacts:
    """size: bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """What a complete checkpoint is made of.

    Attributes:
        step: optimiser steps done.
        world_size, zero_stage: who wrote it; another world size needs DeepSpeed's universal format.
        wandb_id: the W&B run that the steps belong to.
        files: path relative to the checkpoint -> size and hash.
    """

    step: int
    world_size: int
    zero_stage: int | None
    wandb_id: str | None
    files: dict[str, FileFacts]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(facts.size for facts in self.files.values())


def facts_of(path: Path) -> FileFacts:
    """Flush a file to disk, then measure and hash it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return FileFacts(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def facts_of_all(root: Path, files: Iterable[Path]) -> dict[str, FileFacts]:
    """Facts by path relative to `root`."""
    paths = list(files)
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip((str(p.relative_to(root)) for p in paths), pool.map(facts_of, paths), strict=True))


def files_in(checkpoint: Path) -> list[Path]:
    return sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name != MANIFEST)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def all_checkpoints(directory: Path) -> list[Path]:
    """Every renamed checkpoint, newest first, whole or damaged."""
    named = (path for path in directory.glob("checkpoint-*") if _NAME.fullmatch(path.name))  # not checkpoint-4-backup
    return sorted((path for path in named if path.is_dir()), key=step_of, reverse=True)


def read_manifest(checkpoint: Path) -> CheckpointManifest | None:
    """None where there is none that can be read."""
    try:
        values = json.loads((checkpoint / MANIFEST).read_text())
        files = {name: FileFacts(**facts) for name, facts in values.pop("files").items()}
        return CheckpointManifest(**values, files=files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def damage_in(checkpoint: Path) -> list[str]:
    """What is wrong with a checkpoint, one line a file; empty where every file is what its manifest says."""
    manifest = read_manifest(checkpoint)
    if manifest is None:
        return [f"{MANIFEST} is missing or unreadable"]
    problems = []
    present = {}
    for name, facts in manifest.files.items():
        path = checkpoint / name
        if not path.exists():
            problems.append(f"{name} is missing")
        elif (size := path.stat().st_size) != facts.size:
            problems.append(f"{name} has {size} bytes instead of {facts.size}")
        else:
            present[name] = path
    found = facts_of_all(checkpoint, present.values())
    problems += [f"{name} has other content than was written" for name in present if found[name] != manifest.files[name]]
    return problems


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def commit(written: Path, directory: Path, manifest: CheckpointManifest) -> Path:
    """Give a checkpoint that is completely written its manifest and its name. Atomic: it appears whole or not at all.

    Args:
        written: where its files are, below `directory`.
    """
    with (written / MANIFEST).open("w") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(written)
    target = directory / f"checkpoint-{manifest.step}"
    replaced = written.with_name(f"replaced-{manifest.step}")
    if target.exists():  # the same step, written before by a start that lost it
        target.rename(replaced)
    written.rename(target)
    _sync_directory(directory)
    shutil.rmtree(replaced, ignore_errors=True)
    temporary = directory / f"{LATEST}.tmp"
    temporary.write_text(target.name + "\n")
    temporary.replace(directory / LATEST)
    return target


def remove_all_but(directory: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest complete checkpoints; returns what was deleted."""
    complete = [p for p in all_checkpoints(directory) if (p / MANIFEST).exists()]
    for checkpoint in complete[keep:]:
        (checkpoint / MANIFEST).unlink()  # first: half deleted, it must not look whole
        shutil.rmtree(checkpoint)
    return complete[keep:]


def clear_unfinished(directory: Path) -> list[str]:
    """Remove what starts that died left half written; returns one line for each such checkpoint."""
    lines: list[str] = []
    for leftover in sorted(directory.glob(f"{WRITING}*")):
        lines += [f"{p.name} was never finished: passed over" for p in sorted(leftover.glob("checkpoint-*"))]
        shutil.rmtree(leftover)
    return lines


def newest_complete(directory: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume from, and a line for each one passed over. Damaged ones are set aside under another name."""
    lines: list[str] = []
    for checkpoint in all_checkpoints(directory):
        problems = damage_in(checkpoint)
        if not problems:
            return checkpoint, lines
        aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        lines.append(f"{checkpoint.name} is damaged ({problems[0]}{more}): passed over, kept as {aside.name}")
    return None, lines
