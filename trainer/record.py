"""What every artifact needs: hashes, JSON that is written whole, the versions and the commit that made it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "deepspeed", "transformers", "trl", "datasets", "accelerate", "peft", "wandb", "hydra-core", "keel")


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
    git = ["git", "-C", str(Path(__file__).parents[1])]
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


def write_private(path: Path, text: str) -> None:
    """A file that only its owner, who is this user, may read and write; completely or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def why_foreign(path: Path) -> str | None:
    """Why what stands in a file or directory may be somebody else's doing; None where it is this user's alone."""
    facts = path.stat()
    if facts.st_uid != os.geteuid():
        return f"belongs to {owner_of(path)}"
    if facts.st_mode & 0o022:
        return "may be written by others (chmod go-w it, if you know what is in it)"
    return None


def owner_of(path: Path) -> str:
    """The user that a file belongs to, by name where it has one here."""
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"
