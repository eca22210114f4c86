"""Paths and hub names in a config."""

from __future__ import annotations

import re
from pathlib import Path

_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
PLAIN_NAME = re.compile(r"^[A-Za-z0-9][\w-]*$")  # part of directories and of metrics


def looks_local(path: str) -> bool:
    """Whether a model or dataset is named by a path rather than by a hub name."""
    return path.startswith((".", "/", "~")) or not _HUB_NAME.match(path) or Path(path).exists()


def missing_path(key: str, path: str, base_dir: Path) -> list[str]:
    """The problem with a key that names a path which is not there; none for hub names."""
    if looks_local(path) and not (base_dir / Path(path).expanduser()).exists():
        return [f"{key}: {path} does not exist (looked from {base_dir}); give an existing path or a hub name."]
    return []
