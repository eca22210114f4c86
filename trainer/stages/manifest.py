"""What a finished stage writes down: enough to know where it came from, and whether it still holds."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trainer.errors import ArtifactError

MANIFEST = "manifest.json"
_PACKAGES = ("torch", "deepspeed", "transformers", "trl", "datasets", "accelerate", "peft", "wandb", "hydra-core", "keel")


@dataclass(frozen=True)
class Manifest:
    """fingerprint: hash of config part, seed and inputs. outputs: file -> sha256, relative to the stage directory."""

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    config: dict[str, Any]
    seed: int
    world_size: int
    seconds: float
    finished: str
    git_commit: str
    versions: dict[str, str]
    host: str
    outputs: dict[str, str]


def fingerprint_of(value: Any) -> str:
    """A short hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_path(path: Path) -> str:
    """A file's content, or for a directory the contents of its files. Large weights count by size and head."""

    def one(file: Path) -> list[Any]:
        size = file.stat().st_size
        if size <= 64 << 20:
            return [file.name, hash_file(file)]
        with file.open("rb") as stream:  # hashing 16 GB before every start would be felt
            return [file.name, size, hashlib.sha256(stream.read(1 << 20)).hexdigest()]

    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return fingerprint_of([one(file) for file in files])


def git_commit() -> str:
    """The commit of the source tree, with `+changes` when it is not clean; `unknown` outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parents[2])]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, value: Any) -> None:
    """Write completely or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_manifest(
    stage_dir: Path, *, fingerprint: str, inputs: dict[str, str], config: dict[str, Any], seed: int,
    world_size: int, seconds: float, outputs: Iterable[Path],
) -> Manifest:  # fmt: skip
    manifest = Manifest(
        stage=stage_dir.name,
        fingerprint=fingerprint,
        inputs=inputs,
        config=config,
        seed=seed,
        world_size=world_size,
        seconds=round(seconds, 1),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        git_commit=git_commit(),
        versions=versions(),
        host=platform.node(),
        outputs={str(p.relative_to(stage_dir)): hash_file(p) for p in outputs},
    )
    write_json(stage_dir / MANIFEST, asdict(manifest))
    return manifest


def read_manifest(stage_dir: Path) -> Manifest | None:
    """None where the stage has not finished.

    Raises:
        ArtifactError: a manifest is there and cannot be read.
    """
    path = stage_dir / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete {stage_dir} to redo the stage.") from error


def damaged_outputs(stage_dir: Path, manifest: Manifest) -> list[str]:
    """Outputs that are missing or no longer what the stage wrote."""
    return [
        name
        for name, digest in manifest.outputs.items()
        if not (stage_dir / name).exists() or hash_file(stage_dir / name) != digest
    ]
