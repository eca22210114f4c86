"""The transformer block of the side networks: pre-norm attention with rotary positions, optional cross-attention, GELU MLP.

B batch, T new tokens, S all tokens so far, w width, n heads, e head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.methods.dsa.adapter_config import head_size
from trainer.methods.dsa.base import token_positions

_ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class Context:
    """What all blocks share in one pass.

    Attributes:
        visible: (B, 1, T, S) bool; which tokens each new token sees. Padding is seen by nobody but itself.
        cos, sin: (B, 1, T, e/2), of the positions without padding.
        cache: transformers' DynamicCache, or None.
    """

    visible: Tensor
    cos: Tensor
    sin: Tensor
    cache: Any

    @classmethod
    def of(cls, attention_mask: Tensor, new: int, width: int, causal: bool, dtype: torch.dtype, cache: Any = None) -> Context:
        """attention_mask (B, S) of 0 and 1, over the tokens in the cache and the `new` ones."""
        device, total = attention_mask.device, attention_mask.shape[1]
        key = torch.arange(total, device=device)
        query = key[total - new :, None]
        visible = attention_mask.bool()[:, None, None, :]
        if causal:
            visible = visible & (key <= query)
        exact = torch.promote_types(dtype, torch.float32)
        size = head_size(width)
        frequency = _ROTARY_BASE ** -(torch.arange(0, size, 2, device=device, dtype=exact) / size)
        angle = token_positions(attention_mask, new)[:, None, :, None] * frequency
        return cls(visible | (key == query), angle.cos().to(dtype), angle.sin().to(dtype), cache)

    def rotated(self, x: Tensor) -> Tensor:
        """Rotary position embedding of (B, n, T, e): entry i is paired with entry i + e/2."""
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Multi-head attention of x (B, T, w) over `memory` (B, T, w), which is x itself in self-attention.

    slot: where its keys and values lie in the cache.
    """

    def __init__(self, width: int, slot: int):
        super().__init__()
        self.slot, self.head_size = slot, head_size(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, context: Context) -> Tensor:
        query, key, value = (
            project(y).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for project, y in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        query, key = context.rotated(query), context.rotated(key)
        if context.cache is not None:
            key, value = context.cache.update(key, value, self.slot)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=context.visible)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))
        return out


class Block(nn.Module):
    """x (B, T, w) -> (B, T, w), with 12 w^2 weights; 16 w^2 with cross-attention.

    number: of this block in its network, from 0; each has its own place in the cache.
    """

    def __init__(self, width: int, number: int, cross: bool = False):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, 2 * number if cross else number)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = Attention(width, 2 * number + 1) if cross else None
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False))

    def forward(self, x: Tensor, context: Context, memory: Tensor | None = None) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, context)
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.cross_attention(self.cross_norm(x), memory, context)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out
