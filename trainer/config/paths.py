"""Paths and hub names in a config."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

from trainer.suggest import did_you_mean

ADAPTER_CONFIG = "adapter_config.json"  # PEFT's

_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+(:[\w.-]+)?)?\Z")  # of a dataset, with the subset behind a colon
_FILES = re.compile(r"\.(jsonl?|csv|tsv|parquet|arrow|txt|gz|zst|zip|safetensors|bin|pt|pth|gguf)\Z", re.IGNORECASE)
PLAIN_NAME = re.compile(r"^[A-Za-z0-9][\w-]*\Z")  # part of directories and of metrics


def looks_local(path: str) -> bool:
    """Whether a model or dataset is named by a path rather than by a hub name: it is there, or its folder is, or it ends as
    files do and names of the hub do not, or something is there of nearly that name."""
    if path.startswith((".", "/", "~")) or not _HUB_NAME.match(path) or _FILES.search(path):
        return True
    return Path(path).exists() or ("/" in path and Path(path).parent.is_dir()) or bool(_nearly(Path(path)))


def _nearly(path: Path) -> list[str]:
    """Files and folders that differ in no more than the ending of a file, or a letter of the folder that they are in."""
    if path.parent == Path():
        return [other.name for other in Path().iterdir() if _ends_as_a_file(other.name, path.name)]
    near = difflib.get_close_matches(
        str(path.parent), [other.name for other in Path().iterdir() if other.is_dir()], cutoff=0.75
    )
    found = [other for folder in near for other in Path(folder).glob(f"{path.name}*")]
    return [str(other) for other in found if other.name == path.name or _ends_as_a_file(other.name, path.name)]


def _ends_as_a_file(name: str, stem: str) -> bool:
    return name.startswith(f"{stem}.") and bool(_FILES.search(name))


def adapter_problem(key: str, path: str, directory: Path) -> list[str]:
    """The problem with a key that names a model where there is an adapter alone.

    Args:
        directory: where the model of that path or hub name is on this machine.
    """
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
    wanted = base_dir / Path(path).expanduser()
    if not looks_local(path) or wanted.exists():
        return []
    beside = _nearly(Path(path))
    if not beside and wanted.parent.is_dir():
        beside = [str(Path(path).with_name(other.name)) for other in wanted.parent.iterdir()]
    hint = did_you_mean(path, beside, "give an existing path or a hub name.")
    return [f"{key}: {path} does not exist (looked from {base_dir}); {hint}"]
