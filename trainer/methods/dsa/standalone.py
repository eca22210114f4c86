"""The comparable standalone guardrail: the ladder's network without its rungs, on its own embedding (arXiv 2506.00166).

B batch, T tokens, K labels, V vocabulary, d hidden size and L layers of the base compared with, w width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.methods.dsa.adapter_config import AdapterConfig, head_size
from trainer.methods.dsa.cost import adapter_parameters, ladder_block_parameters
from trainer.methods.dsa.guardrail import at, own_logits
from trainer.methods.dsa.transformer import Block, Context

_SMALLEST_HEAD = 16


def matched_width(config: AdapterConfig, hidden: int, layers: int) -> int:
    """The w at which as many blocks as the ladder has hold as many parameters as the whole ladder, D_l included. Where the
    ladder is not narrower than 16, heads are not smaller than that."""
    wanted = adapter_parameters(config, hidden, layers)
    depth = len(config.ladder_layers(layers))

    def parameters(width: int) -> int:
        return depth * ladder_block_parameters(width) + 2 * width

    widths = [w for w in range(2, 2 * hidden + 1, 2) if head_size(w) >= min(w, _SMALLEST_HEAD)]
    return min(widths, key=lambda width: abs(parameters(width) - wanted))


class Standalone(nn.Module):
    """A small transformer classifier with the depth and the non-embedding parameters of an LST guardrail.

    Attributes:
        width: w.
        labels: what the outputs mean.
    """

    def __init__(self, config: AdapterConfig, hidden: int, layers: int, vocabulary: int, causal: bool, labels: Sequence[str]):
        super().__init__()
        self.labels, self.causal = tuple(labels), causal
        self.width = matched_width(config, hidden, layers)
        self.embedding = nn.Embedding(vocabulary, self.width)
        self.blocks = nn.ModuleList(Block(self.width, number) for number in range(len(config.ladder_layers(layers))))
        self.norm = nn.LayerNorm(self.width)
        self.head = nn.Linear(self.width, len(self.labels))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
        """input_ids and attention_mask (B, T); positions (B, K) or (B,) and the result, (B, K) logits, as of `Guardrail`."""
        x = self.embedding(input_ids)
        context = Context.of(attention_mask, input_ids.shape[1], self.width, self.causal, x.dtype)
        for block in self.blocks:
            x = block(x, context)
        return own_logits(self.head, at(self.norm(x), positions.reshape(len(positions), -1).expand(-1, len(self.labels))))
