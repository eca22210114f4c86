"""Node-local staging: a copy of a model or dataset on the node's own disk, made once per node, used by all its ranks."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from trainer.config.hub import cached
from trainer.errors import ConfigError
from trainer.record import fingerprint_of, hash_files, locked

_UNSET = re.compile(r"\$(?:\w+|\{[^}]*\})")


def expanded(scratch: str) -> Path:
    """`launcher.scratch` as it is called on this node.

    Raises:
        ConfigError: a variable in it has no value here.
    """
    path = os.path.expandvars(scratch)
    if unset := _UNSET.search(path):
        raise ConfigError(
            f"launcher.scratch: {scratch} uses {unset.group()}, which is not set on {platform.node()}; "
            "set it in launcher.environment or launcher.setup, or name a directory that every node has."
        )
    return Path(path).expanduser()


def local_copy(path: str, scratch: str) -> str:
    """The copy of `path` under `<scratch>/keel-<uid>/` on this node; the first rank to ask makes it, the others wait.

    A later run finds the copy again, as long as the files behind `path` have the same names and content, and the copy too.

    Returns:
        The copy's path; `path` itself, after a warning, where the node has no room for a copy.

    Raises:
        ConfigError: the scratch directory cannot be used.
    """
    source = _on_disk(path)
    if source is None:
        return path
    home = own_directory(expanded(scratch))
    with locked(home / f"{fingerprint_of(str(source))}.lock"):  # one rank reads the files, the others find their hashes
        content = _content(source)
    target = home / fingerprint_of([Path(path).name, content])
    copy = target / Path(path).name
    with locked(target.with_suffix(".lock")):
        if content.items() <= _content(copy).items():  # a dataset's copy has caches beside it
            return str(copy)
        partial = target.with_suffix(".partial")
        for left_over in (target, partial):  # a copier that was killed, or a disk that was cleaned in part
            shutil.rmtree(left_over, ignore_errors=True)
        needed, free = sum(file.stat().st_size for file in _files(source)), shutil.disk_usage(home).free
        if needed >= free:
            return _original(path, home, f"{_gib(needed)} GiB do not fit into {_gib(free)} GiB")
        try:
            partial.mkdir()
            if source.is_dir():
                shutil.copytree(source, partial / copy.name)
            else:
                shutil.copy2(source, partial / copy.name)
        except OSError as error:  # the space went to somebody else meanwhile
            shutil.rmtree(partial, ignore_errors=True)
            return _original(path, home, f"copying failed ({error})")
        partial.rename(target)
    return str(copy)


def _on_disk(path: str) -> Path | None:
    """Where the files are: a local path, or the snapshot of a hub name in this node's view of the cache."""
    found = Path(path) if Path(path).exists() else cached(path)
    return None if found is None else found.resolve()  # of what is nowhere, whoever loads it says what is wrong


def _content(source: Path) -> dict[str, str]:
    """Name of each file -> its SHA-256; empty where nothing is there."""
    files = _files(source) if source.exists() else []
    return dict(zip((str(file.relative_to(source)) for file in files), hash_files(files), strict=True))


def _files(source: Path) -> list[Path]:
    return sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]


def own_directory(scratch: Path) -> Path:
    """`<scratch>/keel-<uid>`, private to this user: scratch is often writable by everybody."""
    home = scratch / f"keel-{os.getuid()}"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"launcher.scratch: cannot write in {scratch} on {platform.node()}: {error.strerror}; "
            "name a directory on the node's own disk that you can write to."
        ) from error
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        raise ConfigError(f"launcher.scratch: {home} on {platform.node()} belongs to somebody else; choose another scratch.")
    return home


def _original(path: str, home: Path, why: str) -> str:
    print(
        f"launcher.scratch: {path} is read where it is, not from {home} on {platform.node()}: {why}; "
        "make room there, or set launcher.scratch=null.",
        file=sys.stderr,
        flush=True,
    )
    return path


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
