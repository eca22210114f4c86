"""Adapters, guardrails and aligners for a given base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.adapters import Adapter, Bypass, Probe
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.base import is_causal, unwrapped
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.ladder import CrossLadder, Ladder
from trainer.methods.dsa.last_layers import LastLayers


def make_adapter(config: AdapterConfig, model: Any) -> Adapter:
    """A fresh adapter for `model`, in float32 on the CPU; lld in the dtype and place of the base.

    Raises:
        ConfigError: the adapter does not fit the base.
    """
    model = unwrapped(model)
    text = model.config.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    match config.kind:
        case "plr":
            return Probe(config, hidden, is_causal(model))
        case "rtb":
            return Bypass(config, hidden, layers, is_causal(model))
        case "lst":
            return Ladder(config, hidden, layers, is_causal(model))
        case "lst_plus":
            return CrossLadder(config, hidden, layers, is_causal(model))
        case _:
            return LastLayers(config, model)


def make_guardrail(config: AdapterConfig, model: Any, labels: Sequence[str]) -> Guardrail:
    """A fresh guardrail; raises as `make_adapter`."""
    return Guardrail(make_adapter(config, model), labels)


def make_aligner(config: AdapterConfig, model: Any) -> Aligner:
    """A fresh aligner; raises as `make_adapter` and `Aligner`."""
    return Aligner(make_adapter(config, model), unwrapped(model).config.get_text_config().hidden_size)
