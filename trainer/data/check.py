"""Data that is read before a process starts, so that a mistake in it is found with those in the config."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout

from trainer.config.datasets import dataset_place
from trainer.config.mirror import INDEX
from trainer.config.paths import looks_local
from trainer.data.folders import files_below
from trainer.errors import DataError

MOST = 512 << 20  # bytes; what is more is left to the stage that reads it
_sound: set[tuple[object, ...]] = set()  # what this process has read without a mistake: a sweep reads its data once


def unreadable(key: str, source: str, section: object, read: Callable[[], object]) -> list[str]:
    """The problem with data that cannot be read; none of what is on the hub alone, which is not asked here.

    Args:
        key: what names the data in a config.
        source: its path or hub name.
        section: all that says how it is read.
        read: reads it; what it prints is not shown, because a stage will say it again.
    """
    place = dataset_place(source)
    if place is None:
        return []
    path = place.path
    if not path.exists():
        gone = f"{key}: {source} is {path} in the mirror, and that does not exist; mend its {INDEX}."
        return [] if looks_local(source) else [gone]
    inside = [path / file for file in files_below(path)] if path.is_dir() else [path]
    files = [file.stat() for file in inside if file.exists()]  # a link to nothing is found where it is read
    seen = (key, repr(section), *((file.st_ino, file.st_mtime_ns, file.st_size) for file in files))
    if seen in _sound or sum(file.st_size for file in files) > MOST:
        return []
    try:
        with redirect_stdout(io.StringIO()):
            read()
    except DataError as error:
        return [f"{key}: {error}"]
    _sound.add(seen)
    return []
