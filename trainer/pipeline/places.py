"""Where the models of a run are, and its results."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from trainer.config.run import RunConfig
from trainer.config.shipped import SHIPPED
from trainer.errors import ConfigError

_NOT_LOADED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "original/*"]  # weights are read as safetensors only
RESULTS = "results.json"  # of the whole run; there as long as no stage has begun anew
REPORT, PICTURE = "report.html", "safety.png"  # beside them, and made of them
RESPONSES = "responses.jsonl"  # in an evaluation's directory: one line per response of every model
METRICS_FILE = "metrics.jsonl"  # in a stage directory: one line each time it logged something, `STEP` among the values
STEP = "step"  # W&B renumbers its own steps when a resumed stage repeats some; charts use this
MODEL_DIR = "model"  # in a stage directory: weights, config and tokenizer, loadable by plain transformers


def base_model_path(config: RunConfig, run_dir: Path) -> str:
    """The model a run starts from: a shipped base, fresh weights made by stage `base`, a path, or a hub name; where a revision
    of a hub model is asked for, its files on this machine.

    Raises:
        ConfigError: that revision is not here and cannot be had.
    """
    if config.model.random_init is not None:
        return str(run_dir / "base" / MODEL_DIR)
    assert config.model.path is not None  # checked when the config was loaded
    if config.model.revision is not None:
        return _snapshot(config.model.path, config.model.revision)
    return str(SHIPPED.get(config.model.path) or Path(config.model.path).expanduser())


def _snapshot(name: str, revision: str) -> str:
    try:
        return snapshot_download(name, revision=revision, ignore_patterns=_NOT_LOADED)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(f"model.revision: {name} at {revision} is not in the cache and cannot be had: {error}") from error
