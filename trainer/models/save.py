"""How a model is written: so that transformers loads it as it was, this version and 4.57."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.models.template import stop_tokens

_NOT_SCALING = ("rope_theta", "partial_rotary_factor")


def save_model(model: Any, tokenizer: Any, target: Path, weights: dict[str, Tensor] | None = None) -> list[Path]:
    """Writes weights, config, generation config and tokenizer; returns the files.

    Args:
        weights: in place of the model's own, all of one dtype.
    """
    model.config.use_cache = model.generation_config.use_cache = True  # gradient checkpointing may have turned it off
    stops = stop_tokens(model, tokenizer)
    model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    if model.generation_config.temperature not in (None, 1.0) or model.generation_config.top_p not in (None, 1.0):
        model.generation_config.do_sample = True  # published with these alone, and refused so by `save_pretrained`
    dtype = model.dtype if weights is None else next(iter(weights.values())).dtype
    model.save_pretrained(target, state_dict=weights)
    model.config.dtype = dtype
    model.config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    _change(target / "config.json", _config_of_4)
    make_tokenizer_readable(target)
    return sorted(path for path in target.iterdir() if path.is_file())


def make_tokenizer_readable(directory: Path) -> None:
    """Lets transformers 4 read the tokenizer that lies in a directory, if one does."""
    if (directory / "tokenizer.json").exists():
        _change(directory / "tokenizer_config.json", _tokenizer_config_of_4)


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _config_of_4(config: dict[str, Any]) -> None:
    """Adds the names that transformers 4 has for the parameters of rotary embeddings; without them it takes its defaults."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        rope = part.get("rope_parameters")
        if not rope:
            continue
        if "rope_theta" not in rope:  # one set for each type of layer, as Gemma 3 has them
            part["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
            rope = rope["full_attention"]
        part |= {name: rope[name] for name in _NOT_SCALING if name in rope}
        if rope.get("rope_type", "default") != "default":
            part["rope_scaling"] = {name: value for name, value in rope.items() if name not in _NOT_SCALING}
        if part.get("model_type") == "gpt_neox":
            part |= {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope["partial_rotary_factor"]}


def _tokenizer_config_of_4(config: dict[str, Any]) -> None:
    """Names the class and the list of special tokens as transformers 4 knows them; 5 reads both names."""
    if "auto_map" not in config:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"  # tokenizer.json says all
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
