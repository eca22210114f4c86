"""What the card of a dataset, the README.md of its folder, says of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from trainer.errors import DataError

_MOST = 1 << 20  # bytes of a card


def splits_on_card(folder: Path, name: str | None = None) -> dict[str, list[str]]:
    """Split -> the patterns of its files, as the key `configs` of the hub names them; empty where the card names none.

    Args:
        name: of the subset that is meant; None is the one marked as the default, or all of them.

    Raises:
        DataError: two subsets have a split of the same name.
    """
    found: dict[str, list[str]] = {}
    subsets = _subsets(folder / "README.md")
    if name is None:
        wanted = [subset for subset in subsets if subset.get("default") is True] or subsets
    else:
        wanted = [subset for subset in subsets if subset.get("config_name") == name]
    for subset in wanted:
        for split, patterns in _splits(subset.get("data_files")).items():
            if split in found:
                raise DataError(
                    f"{folder}: its README.md names several datasets with a split {split}; give the path of the files of one."
                )
            found[split] = patterns
    return found


def _subsets(card: Path) -> list[dict[str, Any]]:
    if not card.is_file() or card.stat().st_size > _MOST:
        return []
    parts = card.read_text(encoding="utf-8-sig", errors="replace").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return []
    try:
        head = yaml.safe_load(parts[1])
    except (yaml.YAMLError, RecursionError):
        return []  # a page of text like any other
    subsets = head.get("configs") if isinstance(head, dict) else None
    return [subset for subset in subsets if isinstance(subset, dict)] if isinstance(subsets, list) else []


def _splits(files: Any) -> dict[str, list[str]]:
    """A path is the split train, as on the hub, and so is a list of paths; an object has a split and a path."""
    if isinstance(files, str) or (isinstance(files, list) and files and all(isinstance(file, str) for file in files)):
        return {"train": [files] if isinstance(files, str) else files}
    if not isinstance(files, list):
        return {}
    named = [one for one in files if isinstance(one, dict) and "split" in one and "path" in one]
    return {str(one["split"]): [one["path"]] if isinstance(one["path"], str) else list(one["path"]) for one in named}
