"""What every artifact needs: hashes, JSON that is written whole, the versions and the commit that made it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import pwd
import re
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "deepspeed", "transformers", "trl", "datasets", "accelerate", "peft", "wandb", "hydra-core", "keel")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEMBERED = 1 << 20  # bytes from which on a hash is; smaller files are read as quickly
_SETTLED = 2 * 10**9  # ns: more than a tick of any file system's clock
_READERS = 8  # threads: hashing releases the interpreter lock, and a parallel file system wants several readers


def fingerprint_of(value: Any) -> str:
    """A short hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content.

    That of a large file is remembered in the user's cache directory, by device, inode, size and times, so that weights are read
    once and not in every stage and on every rank. One that was written a moment ago is not: it may change within one tick of
    the file system's clock.
    """
    facts = path.stat()
    if facts.st_size < _REMEMBERED:
        return _sha256(path)
    key = [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    known = cache_directory("sha256") / fingerprint_of(key)
    with suppress(OSError, UnicodeDecodeError):
        if _SHA256.fullmatch(found := known.read_text()):
            return found
    settled = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) > _SETTLED
    digest = _sha256(path)
    if settled:
        with suppress(OSError):  # no room, no home: the next one reads it again
            known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = known.with_name(f"{known.name}.{uuid.uuid4().hex}")  # several processes may write the same
            temporary.write_text(digest)
            temporary.replace(known)
    return digest


def hash_files(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of each, several read at a time."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(hash_file, paths))


def fingerprint_path(path: Path) -> str:
    """A file's name and content, or for a directory those of all files below it, but for hidden ones.

    Raises:
        OSError: something cannot be read.
    """
    files = sorted(_files_below(path)) if path.is_dir() else [path]
    names = [str(file.relative_to(path)) if path.is_dir() else file.name for file in files]
    return fingerprint_of([list(one) for one in zip(names, hash_files(files), strict=True)])


def _files_below(directory: Path) -> Iterator[Path]:
    """Links are followed; a directory that is met a second time is passed over."""
    seen = set()
    for place, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (file for name in names if not name.startswith(".") and (file := Path(place, name)).is_file())
        seen.add(real)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_directory(kind: str) -> Path:
    """Where this user's caches of a kind are; it need not be there yet, and cannot be made where the user has no home."""
    home = os.path.expanduser("~")
    cache = os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if os.path.isabs(home) else os.devnull)
    return Path(cache) / "keel" / kind


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The block for one process at a time, of all that name this file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes, however the process ends
        yield


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


def this_user() -> str:
    """The name of the user that this process runs as; the number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def owner_of(path: Path) -> str:
    """The user that a file belongs to, by name where it has one here."""
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"
