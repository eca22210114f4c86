"""Paths and hub names in a config."""

from __future__ import annotations

import json
import re
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"  # PEFT's

_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
PLAIN_NAME = re.compile(r"^[A-Za-z0-9][\w-]*$")  # part of directories and of metrics


def looks_local(path: str) -> bool:
    """Whether a model or dataset is named by a path rather than by a hub name."""
    return path.startswith((".", "/", "~")) or not _HUB_NAME.match(path) or Path(path).exists()


def adapter_problem(key: str, path: str, base_dir: Path) -> list[str]:
    """The problem with a key that names a model where a directory holds an adapter alone; none for hub names."""
    directory = base_dir / Path(path).expanduser()
    if not (directory / ADAPTER_CONFIG).exists() or any(directory.glob("model*.safetensors")):
        return []
    try:
        base = json.loads((directory / ADAPTER_CONFIG).read_text()).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    return [
        f"{key}: {path} is an adapter, not a model (its base: {base or 'unknown'}); give a model with the adapter merged "
        "into it, such as the directory `model` beside the adapter of a run of ours."
    ]


def missing_path(key: str, path: str, base_dir: Path) -> list[str]:
    """The problem with a key that names a path which is not there; none for hub names."""
    if looks_local(path) and not (base_dir / Path(path).expanduser()).exists():
        return [f"{key}: {path} does not exist (looked from {base_dir}); give an existing path or a hub name."]
    return []
