"""Reading a frozen base: one forward pass, whose hidden states serve every adapter.

B batch, T new tokens, S all tokens so far, d hidden size, L layers, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from trainer.models.blocks import decoder_blocks


@dataclass(frozen=True)
class BaseSizes:
    """What the cost of a base and of its adapters depends on.

    Attributes:
        hidden, layers, vocabulary: d, L, V.
        parameters: all of them; tied ones once.
        block_parameters: of the last block.
        block_matrices: the last block's parameters that are weights of linear layers.
        query: attention heads times head size.
    """

    hidden: int
    layers: int
    vocabulary: int
    parameters: int
    block_parameters: int
    block_matrices: int
    query: int

    @classmethod
    def of(cls, model: Any) -> BaseSizes:
        """Counted on the modules; the model may lie on the meta device. A mixture of experts is not counted right.

        Raises:
            ConfigError: the blocks of the model cannot be told.
        """
        config, block = model.config.get_text_config(), decoder_blocks(model)[-1]
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
            parameters=sum(p.numel() for p in model.parameters()),
            block_parameters=sum(p.numel() for p in block.parameters()),
            block_matrices=sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear)),
            query=config.num_attention_heads * head,
        )


def unwrapped(model: Any) -> Any:
    """The transformers model inside a DeepSpeed engine and a PEFT model."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_causal(model: Any) -> bool:
    """Whether token t of the base sees only tokens <= t: True for causal language models, False for encoders."""
    inner = unwrapped(model)
    said = [bool(module.is_causal) for module in inner.modules() if hasattr(module, "is_causal")]
    return any(said) if said else bool(inner.can_generate())  # some, such as Bloom and state-space models, do not say


def token_positions(attention_mask: Tensor, new: int) -> Tensor:
    """The position of each of the last `new` tokens, counted without padding: (B, S) -> (B, new)."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -new:]


@torch.no_grad()
def read(model: Any, input_ids: Tensor, attention_mask: Tensor, past_key_values: Any = None, **options: Any) -> Any:
    """One forward pass of the base in evaluation mode, without gradients.

    Args:
        model: a causal language model or an encoder; PEFT models and DeepSpeed engines as well.
        input_ids: (B, T).
        attention_mask: (B, S) of 0 and 1; S = T without a cache.
        past_key_values: the base's cache, which is extended.
        options: go to the model, e.g. `logits_to_keep`.

    Returns:
        The model's own output; `hidden_states` are h_0 .. h_L, each (B, T, d), h_L after the final norm.
    """
    if model.training:
        model.eval()  # frozen also means without dropout
    inner = unwrapped(model)
    if is_causal(inner) and "position_ids" in inspect.signature(inner.forward).parameters:
        options.setdefault("position_ids", token_positions(attention_mask, input_ids.shape[1]))
    if past_key_values is not None:
        options.update(past_key_values=past_key_values, use_cache=True)
    elif is_causal(inner):
        options.setdefault("use_cache", False)
    return model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, **options)


def head_logits(model: Any, states: Tensor) -> Tensor:
    """What the causal model makes of final hidden states (B, T, d): its LM head, with its soft-capping or scale if it has one.

    The model's own forward runs with its backbone replaced, so no architecture needs a rule. Gradients reach `states`.

    Returns:
        (B, T, V).
    """
    causal = unwrapped(model)
    shell = copy.copy(causal)
    shell._modules = {name: _Given(states) if part is causal.base_model else part for name, part in causal._modules.items()}
    logits: Tensor = shell.forward(input_ids=None).logits
    return logits


class _Given(nn.Module):
    """In the place of a backbone: returns what it was given."""

    def __init__(self, states: Tensor):
        super().__init__()
        self.states = states

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self.states)
