"""LST and LST+: a small transformer beside the base, with a rung from each of its layers (arXiv 2506.00166).

    s_0 = D_0 h_0
    g_l = sigmoid(a_l / 0.1)                          a_l = 0 at start
    s_l = Block_l( g_l s_{l-1} + (1 - g_l) D_l h_l )
    features: LN(s_L)

B batch, T tokens, d hidden size, w = d / r width of the ladder, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.adapters import GATE_TEMPERATURE, Adapter
from trainer.methods.dsa.transformer import Block, Context


class Ladder(Adapter):
    """LST. With `every` = n > 1, l runs over each n-th layer only, counted back from L.

    Raises:
        ConfigError: the reduction does not fit the base's width.
    """

    cross = False

    def __init__(self, config: AdapterConfig, hidden_size: int, layers: int, causal: bool):
        width = config.ladder_width(hidden_size)
        super().__init__(config, width, causal)
        self.rungs = config.ladder_layers(layers)
        self.first_down = nn.Linear(hidden_size, width, bias=False)
        self.downs = nn.ModuleList(nn.Linear(hidden_size, width, bias=False) for _ in self.rungs)
        self.gates = nn.Parameter(torch.zeros(len(self.rungs)))
        self.blocks = nn.ModuleList(Block(width, number, self.cross) for number in range(len(self.rungs)))
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, cache: Any = None) -> Tensor:
        gates = torch.sigmoid(self.gates / GATE_TEMPERATURE)
        context = Context.of(attention_mask, hidden[0].shape[1], self.width, self.causal, gates.dtype, cache)
        x = self.first_down(hidden[0].to(gates.dtype))
        for gate, rung, down, block in zip(gates, self.rungs, self.downs, self.blocks, strict=True):
            state = down(hidden[rung].to(gates.dtype))
            x = block(gate * x + (1 - gate) * state, context, state)
        features: Tensor = self.norm(x)
        return features


class CrossLadder(Ladder):
    """LST+: in each block, cross-attention from the ladder into the down-projected base states D_l h_l."""

    cross = True
