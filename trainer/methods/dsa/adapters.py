"""What every adapter is, and the two that look at one token at a time: PLR and RTB (arXiv 2506.00166).

B batch, T tokens, d hidden size, w width of the features, L layers, b bottleneck. h_0 (embeddings) .. h_L are the base's
hidden states, detached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from trainer.methods.dsa.adapter_config import AdapterConfig

GATE_TEMPERATURE = 0.1


class Adapter(nn.Module):
    """Reads the hidden states of a base and returns features.

    Attributes:
        config: kind and sizes.
        width: w.
        causal: whether the features of token t depend only on tokens <= t.
        token_wise: whether they depend on token t alone.
    """

    token_wise = False

    def __init__(self, config: AdapterConfig, width: int, causal: bool):
        super().__init__()
        self.config, self.width, self.causal = config, width, causal

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, cache: Any = None) -> Tensor:
        """
        Args:
            hidden: h_0 .. h_L, each (B, T, d); with a cache, of the new tokens only.
            attention_mask: (B, S) of 0 and 1, over all tokens so far; S = T without a cache.
            cache: made by `new_cache`, extended by this call.

        Returns:
            (B, T, w), in the adapter's own dtype.
        """
        raise NotImplementedError

    def new_cache(self) -> Any:
        """An empty cache of keys and values, which can be reordered and cropped as transformers' own."""
        return DynamicCache()


class Probe(Adapter):
    """PLR: the final state h_L itself, for a linear head, or one hidden layer over it."""

    token_wise = True

    def __init__(self, config: AdapterConfig, hidden_size: int, causal: bool):
        super().__init__(config, config.probe_width or hidden_size, causal)
        self.layer = None if config.probe_width is None else nn.Linear(hidden_size, config.probe_width)

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, cache: Any = None) -> Tensor:
        last = hidden[-1]
        if self.layer is None:
            return last
        return nn.functional.gelu(self.layer(last.to(self.layer.weight.dtype)))


class Bypass(Adapter):
    """RTB: x_l = g_l T_l(h_l) + (1 - g_l) T'_l(x_{l-1}), x_0 = h_0, T(x) = x + W2 GELU(W1 x); features LN(x_L).

    g_l = sigmoid(a_l / 0.1) with a_l = 0 at start, and W2 = 0 at start. The final LN is ours: hidden states of the middle
    layers may be many times larger than the last one.
    """

    token_wise = True

    def __init__(self, config: AdapterConfig, hidden_size: int, layers: int, causal: bool):
        super().__init__(config, hidden_size, causal)
        self.gates = nn.Parameter(torch.zeros(layers))
        self.state_tuners = nn.ModuleList(_Tuner(hidden_size, config.bottleneck) for _ in range(layers))
        self.bypass_tuners = nn.ModuleList(_Tuner(hidden_size, config.bottleneck) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, cache: Any = None) -> Tensor:
        gates = torch.sigmoid(self.gates / GATE_TEMPERATURE)
        x = hidden[0].to(gates.dtype)
        for gate, state, of_state, of_bypass in zip(gates, hidden[1:], self.state_tuners, self.bypass_tuners, strict=True):
            x = gate * of_state(state.to(gates.dtype)) + (1 - gate) * of_bypass(x)
        features: Tensor = self.norm(x)
        return features


class _Tuner(nn.Module):
    """T(x) = x + W2 GELU(W1 x); x (..., d)."""

    def __init__(self, hidden_size: int, bottleneck: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, hidden_size, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        tuned: Tensor = x + self.up(nn.functional.gelu(self.down(x)))
        return tuned
