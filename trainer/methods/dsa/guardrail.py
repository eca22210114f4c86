"""A guardrail: a classifier of prompts and responses on the hidden states of the base that answers them.

B batch, T tokens, K labels, w width of the adapter's features.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.methods.dsa.adapters import Adapter


class Guardrail(nn.Module):
    """An adapter and a linear head with one output a label.

    Attributes:
        labels: what the outputs mean, e.g. ("prompt", "response").
        tau: a probability from which on something is flagged; None until it was calibrated.
    """

    def __init__(self, adapter: Adapter, labels: Sequence[str]):
        super().__init__()
        self.adapter, self.labels = adapter, tuple(labels)
        self.tau: float | None = None
        self.head = nn.Linear(adapter.width, len(self.labels))

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, positions: Tensor) -> Tensor:
        """
        Args:
            hidden: h_0 .. h_L, each (B, T, d).
            attention_mask: (B, T) of 0 and 1.
            positions: (B, K): the index in T where each label is read, e.g. the last token of the prompt and that of the
                response; or (B,), one index for all labels.

        Returns:
            (B, K) logits; the sigmoid of one is the probability of its label.
        """
        positions = positions.reshape(len(positions), -1).expand(-1, len(self.labels))
        if self.adapter.token_wise:  # then it has to look nowhere else
            features = self.adapter([at(states, positions) for states in hidden], attention_mask)
        else:
            features = at(self.adapter(hidden, attention_mask), positions)
        return own_logits(self.head, features)


def at(values: Tensor, positions: Tensor) -> Tensor:
    """The values (B, T, w) at positions (B, K): (B, K, w)."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))


def own_logits(head: nn.Linear, features: Tensor) -> Tensor:
    """Output k of the head for features k: (B, K, w) -> (B, K)."""
    logits: Tensor = head(features.to(head.weight.dtype)).diagonal(dim1=-2, dim2=-1)
    return logits
