"""The shape of the model that a run trains, its parameters counted exactly, without its weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import get_peft_model

from trainer.config.architecture import OF, build, shape_fields
from trainer.config.lora import lora_config
from trainer.config.sections import ModelSection
from trainer.errors import ConfigError
from trainer.models.load import load_tokenizer


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only transformer.

    Attributes:
        parameters: all of them; tied ones once.
        trainable: those that get gradients: all, or the adapter's.
        layer_parameters: of one decoder layer.
        hidden, intermediate, vocabulary, layers: of the transformers config.
        query, key_value: heads times head size.
        qk_norm: whether queries and keys are normalised (Qwen 3).
        tied: whether the head's weight is the embedding.
        source: where the shape was found.
    """

    parameters: int
    trainable: int
    layer_parameters: int
    hidden: int
    intermediate: int
    vocabulary: int
    layers: int
    heads: int
    query: int
    key_value: int
    qk_norm: bool
    tied: bool
    source: str


def shape_of(model: ModelSection) -> Shape:
    """Built on torch's meta device: every parameter is there, none of them has memory.

    Raises:
        ConfigError: the model is not on this machine and `model.shape` is missing, or transformers refuses the shape.
    """
    found = shape_fields(model, Path.cwd())
    if found is None:
        raise ConfigError(
            f"model.shape: {model.path} is not on this machine, and `plan` does not ask a hub{_whose(model)}; give the fields "
            "of its config.json as model.shape (conf/model/llama31_8b.yaml shows how), or a local copy as model.path."
        )
    fields, source = found
    return _measured(model, fields if model.random_init is None else _with_vocabulary(model, fields), source)


def _whose(model: ModelSection) -> str:
    return "" if model.shape is None else f" (model.shape is that of {model.shape[OF]})"


def _with_vocabulary(model: ModelSection, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fresh weights get the tokenizer's vocabulary where the shape names none."""
    if "vocab_size" in fields:
        return fields

    assert model.tokenizer is not None  # checked when the config was loaded
    return {**fields, "vocab_size": len(load_tokenizer(model, model.tokenizer))}


def _measured(model: ModelSection, values: Mapping[str, Any], source: str) -> Shape:
    built = build(values, source)
    text = built.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    parameters = _count(built)
    return Shape(
        parameters=parameters,
        trainable=parameters if model.lora is None else _adapter_parameters(built, model.lora),
        layer_parameters=_count(built.base_model.layers[0]) if hasattr(built.base_model, "layers") else 0,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        vocabulary=text.vocab_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        query=text.num_attention_heads * head,
        key_value=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * head,
        qk_norm=any("q_norm" in name for name, _ in built.named_parameters()),
        tied=built.get_output_embeddings().weight is built.get_input_embeddings().weight,
        source=source,
    )


def _count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _adapter_parameters(built: Any, lora: Mapping[str, Any]) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between the libraries' own versions
            adapted = get_peft_model(built, lora_config(lora), autocast_adapter_dtype=False)
    except ValueError as error:
        raise ConfigError(f"model.lora.target_modules: {error}") from error
    return int(adapted.get_nb_trainable_parameters()[0])
