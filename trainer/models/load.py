"""Where a stage's model is, and how it and its tokenizer are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from trainer.config.models import model_place
from trainer.config.sections import ModelSection
from trainer.errors import ArtifactError, ConfigError
from trainer.models.finite import ruined
from trainer.models.local_copy import local_copy
from trainer.models.save import save_model
from trainer.models.template import prepare


def load_tokenizer(model: ModelSection, path: str) -> Any:
    """The tokenizer of `model.tokenizer`, or of the model at `path`, ready for chat prompts and padding; see `prepare` for what
    is fixed in its chat template.

    Raises:
        ConfigError: there is no tokenizer, it has no usable chat template, or it has tokens that the model does not know.
    """
    path = model_place(path)
    source = model_place(model.tokenizer) if model.tokenizer else path
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.tokenizer: {source} holds no tokenizer that transformers can load: {error}") from error
    tokenizer.chat_template = model.chat_template or tokenizer.chat_template
    prepare(tokenizer, source, model.chat_template_kwargs, model.template_date)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, StrictDataclassError):
        return tokenizer  # a tokenizer alone; of a model that cannot be loaded `load_model` says more
    _refuse_unknown_tokens(tokenizer, source, config, f"the model at {path}")
    return tokenizer


def _refuse_unknown_tokens(tokenizer: Any, source: str, config: Any, owner: str) -> None:
    """Raises: ConfigError: a token that can occur in a chat has no row in the model's embedding."""
    size = config.get_text_config().vocab_size
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    never = {  # Gemma 3's text models, say, have a token for pictures
        token
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special and token not in named and added.content not in tokenizer.chat_template
    }
    highest = max(set(tokenizer.get_vocab().values()) - never)
    if highest >= size:
        raise ConfigError(
            f"model.tokenizer: {source} has tokens up to id {highest}, such as "
            f"{tokenizer.convert_ids_to_tokens(highest)!r}, and {owner} has embeddings for {size} tokens; use the "
            "tokenizer that the model was made with, or a model with room for it."
        )


def load_model(model: ModelSection, path: str, dtype: str | None = None, scratch: str | None = None) -> Any:
    """A causal language model from `path`, any name that a config may have for one. Under ZeRO-3 the weights arrive sharded.

    Args:
        scratch: a node-local directory to read the files from; they are copied there first.

    Raises:
        ArtifactError: the weights are missing, damaged, not finite, or not safetensors.
    """
    path = model_place(path)
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
    if getattr(weights, "_hf_peft_config_loaded", False):  # transformers has put it onto its base
        raise ConfigError(f"{path} is an adapter, not a model; give a model with the adapter merged into it.")
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
        _refuse_unknown_tokens(tokenizer, model.tokenizer, config, "model.random_init")
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype))
    except (ValueError, TypeError, RuntimeError, StrictDataclassError) as error:
        raise ConfigError(f"model.random_init: transformers does not accept this shape: {error}") from error
    save_model(fresh, tokenizer, out)
