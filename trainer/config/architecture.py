"""A model without its weights: what its config says, and the modules that this makes, on torch's meta device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.models import model_directory
from trainer.config.sections import ModelSection
from trainer.config.shipped import SHIPPED
from trainer.errors import ConfigError


def shape_fields(model: ModelSection, base_dir: Path) -> tuple[Mapping[str, Any], str] | None:
    """The fields of the model's transformers config and where they were found; None where it is on a hub alone, without
    `model.shape`.

    Raises:
        ConfigError: its directory holds no config.
    """
    if model.random_init is not None:
        return model.random_init, "model.random_init"
    assert model.path is not None  # checked when the config was loaded
    if (directory := model_directory(model.path, base_dir, model.revision)) is not None:
        return _read(directory), "the shipped sandbox base" if model.path in SHIPPED else model.path
    return None if model.shape is None else (model.shape, "model.shape")


def _read(directory: Path) -> Mapping[str, Any]:
    from transformers import PreTrainedConfig

    try:
        fields, _ = PreTrainedConfig.get_config_dict(str(directory), local_files_only=True)
    except OSError as error:
        raise ConfigError(f"model.path: {directory} holds no config.json that transformers can read: {error}") from error
    return dict(fields)


def build(fields: Mapping[str, Any], source: str) -> Any:
    """The causal language model of these fields: every parameter is there, none of them has memory.

    Raises:
        ConfigError: transformers refuses the fields.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    kept = {k: v for k, v in fields.items() if k not in ("architectures", "dtype", "torch_dtype", "transformers_version")}
    try:
        config = AutoConfig.for_model(kept.pop("model_type"), **kept)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (KeyError, ValueError, TypeError, RuntimeError, StrictDataclassError) as error:
        raise ConfigError(f"{source}: transformers does not accept this shape: {error!r}") from error
