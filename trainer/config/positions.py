"""How long a sequence a model can take, where that stands in a config or on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.models import directory_here
from trainer.config.sections import ModelSection


def positions(model: ModelSection, base_dir: Path) -> int | None:
    """Tokens for which the model has positions; None where it does not say, or is not here."""
    fields = model.random_init if model.random_init is not None else _published(model, base_dir)
    found = (fields.get("text_config") or fields).get("max_position_embeddings", fields.get("n_positions"))
    return found if isinstance(found, int) else None


def _published(model: ModelSection, base_dir: Path) -> Mapping[str, Any]:
    if model.path is None:
        return {}
    try:
        directory = directory_here(model.path, base_dir, model.revision)
        fields = None if directory is None else json.loads((directory / "config.json").read_text())
    except (OSError, ValueError):
        fields = None
    return fields if isinstance(fields, dict) else model.shape or {}


def too_long(key: str, length: int, model: ModelSection, base_dir: Path) -> list[str]:
    """The problem with a key that makes sequences of so many tokens."""
    limit = positions(model, base_dir)
    if limit is None or length <= limit:
        return []
    return [
        f"{key}: makes sequences of {length} tokens, and the model has positions for {limit}; lower it, or use another model."
    ]
