"""Where a stage's model is, and how it and its tokenizer are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from trainer.config.sections import ModelSection
from trainer.errors import ArtifactError, ConfigError
from trainer.models.finite import ruined
from trainer.models.local_copy import local_copy


def load_tokenizer(model: ModelSection, path: str) -> Any:
    """The tokenizer of `model.tokenizer`, or of the model at `path`, ready for chat prompts and padding. The variables of
    `model.chat_template_kwargs` are set at the head of its template, so that nothing can render a chat without them.

    Raises:
        ConfigError: there is no tokenizer, or it has no chat template.
    """
    source = model.tokenizer or path
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.tokenizer: {source} holds no tokenizer that transformers can load: {error}") from error
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"model.tokenizer: {source} has no chat template, and prompts are chats; "
            "use an instruct model's tokenizer or add a chat_template to its tokenizer_config.json."
        )
    fixed = "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in model.chat_template_kwargs.items())
    if not tokenizer.chat_template.startswith(fixed):  # a model of ours is saved with them
        tokenizer.chat_template = fixed + tokenizer.chat_template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: ModelSection, path: str, dtype: str | None = None, scratch: str | None = None) -> Any:
    """A causal language model from `path`. Under ZeRO-3 the weights arrive sharded.

    Args:
        scratch: a node-local directory to read the files from; they are copied there first.

    Raises:
        ArtifactError: the weights are missing, damaged, not finite, or not safetensors.
    """
    files = path if scratch is None else local_copy(path, scratch)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            files,
            output_loading_info=True,
            dtype=getattr(torch, dtype or model.dtype),
            attn_implementation=model.attn_implementation,
            quantization_config=quantization(model),
            trust_remote_code=model.trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, SafetensorError, RuntimeError, ValueError, ImportError) as error:
        raise ArtifactError(
            f"model at {path} cannot be loaded: {type(error).__name__}: {error}. "
            "Check model.path and model.attn_implementation; if the file was cut short, copy it again."
        ) from error
    weights, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers and go on
        raise ArtifactError(
            f"model at {path} cannot be loaded: {len(missing)} weights are missing ({', '.join(missing[:3])}); copy it again."
        )
    if bad := ruined(weights.named_parameters()):
        raise ArtifactError(
            f"model at {path}: {len(bad)} of its weights are not finite ({', '.join(bad[:3])}); it answers nothing. "
            "Give another model, or train it again with a lower learning rate."
        )
    weights.config._name_or_path = weights.name_or_path = path  # an adapter records where its base is: not on this node's disk
    return weights


def quantization(model: ModelSection) -> Any:
    """The `BitsAndBytesConfig` of `model.quantization`, or None."""
    return None if model.quantization is None else BitsAndBytesConfig(**model.quantization)


def write_fresh_model(model: ModelSection, out: Path, seed: int) -> None:
    """Randomly initialised weights of the shape in `model.random_init`, saved with the tokenizer.

    Raises:
        ConfigError: the shape is not one that its model type accepts.
    """
    assert model.random_init is not None and model.tokenizer is not None  # checked when the config was loaded
    tokenizer = load_tokenizer(model, model.tokenizer)
    shape = dict(model.random_init)
    try:
        config = AutoConfig.for_model(
            shape.pop("model_type"),
            **{
                "vocab_size": len(tokenizer),
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
                **shape,
            },
        )
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype))
    except (ValueError, TypeError, RuntimeError, StrictDataclassError) as error:
        raise ConfigError(f"model.random_init: transformers does not accept this shape: {error}") from error
    fresh.save_pretrained(out)
    tokenizer.save_pretrained(out)
