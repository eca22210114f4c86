"""Which models, tokenizers and data of a config this node has, without asking any network."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE

from trainer.config.datasets import dataset_place
from trainer.config.hub import cached, prepared
from trainer.config.models import model_place
from trainer.config.paths import looks_local
from trainer.config.run import DATASETS, RunConfig, outside
from trainer.config.shipped import SHIPPED


def wanted(config: RunConfig) -> dict[str, str]:
    """config key -> path or hub name of what the run reads from outside; what ships with the package is left out."""
    named = {key: name for key, name in outside(config).items() if name not in SHIPPED}
    return {key: _placed(config, key, name) for key, name in named.items()}


def missing(config: RunConfig) -> list[str]:
    """`key: name` of everything wanted that is neither at its path nor in this node's Hugging Face caches."""
    revisions = {"model.path": config.model.revision}
    return [f"{key}: {name}" for key, name in wanted(config).items() if not _is_present(key, name, revisions.get(key))]


def _placed(config: RunConfig, key: str, name: str) -> str:
    if not key.startswith(DATASETS):
        return model_place(name, revision=config.model.revision if key == "model.path" else None)
    place = dataset_place(name)
    return name if place is None else str(place.path)


def offline() -> bool:
    return bool(HF_HUB_OFFLINE)


def _is_present(key: str, name: str, revision: str | None) -> bool:
    if looks_local(name):
        return Path(name).expanduser().exists()
    if key.startswith(DATASETS):
        return cached(name, "dataset") is not None or prepared(name)
    files = ("tokenizer_config.json",) if key == "model.tokenizer" else ("config.json",)
    weights = () if key == "model.tokenizer" else ("model.safetensors", "model.safetensors.index.json")
    there = [_cached(name, file, revision) for file in files]
    return all(there) and (not weights or any(_cached(name, file, revision) for file in weights))


def _cached(name: str, file: str, revision: str | None) -> bool:
    return isinstance(try_to_load_from_cache(name, file, revision=revision), str)
