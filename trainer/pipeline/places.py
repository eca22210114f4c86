"""Where the models of a run are, and its results."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from trainer.config.models import model_place
from trainer.config.run import RunConfig
from trainer.errors import ConfigError

NOT_LOADED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "original/*"]  # weights are read as safetensors only
RESULTS = "results.json"  # of the whole run; there as long as no stage has begun anew
MODEL_DIR = "model"  # in a stage directory: weights, config and tokenizer, loadable by plain transformers


def cache_directory(config: RunConfig, run_dir: Path) -> Path:
    """What all runs share: `paths.cache`, or `.cache` beside them."""
    if config.paths.cache is not None:
        return Path(config.paths.cache).expanduser()
    return run_dir.absolute().parents[len(Path(config.run.name).parts) - 1] / ".cache"


def base_model_path(config: RunConfig, run_dir: Path) -> str:
    """The model a run starts from: fresh weights made by stage `base`, a directory on this machine, or a hub name; where a
    revision of a hub model is asked for, its files on this machine.

    Raises:
        ConfigError: that revision is not here and cannot be had, or a GGUF cannot be read.
    """
    if config.model.random_init is not None:
        return str(run_dir / "base" / MODEL_DIR)
    assert config.model.path is not None  # checked when the config was loaded
    name, revision = config.model.path, config.model.revision
    place = model_place(name, revision=revision)
    return _snapshot(name, revision) if revision is not None and place == name else place


def _snapshot(name: str, revision: str) -> str:
    try:
        return snapshot_download(name, revision=revision, ignore_patterns=NOT_LOADED)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(f"model.revision: {name} at {revision} is not in the cache and cannot be had: {error}") from error
