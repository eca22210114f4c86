"""The full-size guardrail: a copy of the base, fine-tuned as a whole, with the head that adapters have (arXiv 2506.00166).

B batch, T tokens, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from trainer.methods.dsa.guardrail import at, own_logits


class FullSize(nn.Module):
    """The backbone of a causal language model, without its LM head, and a linear head with one output a label.

    Attribute labels: what the outputs mean.
    """

    def __init__(self, model: Any, labels: Sequence[str]):
        super().__init__()
        self.labels = tuple(labels)
        self.backbone = model.base_model
        self.head = nn.Linear(model.config.get_text_config().hidden_size, len(self.labels))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
        """input_ids and attention_mask (B, T), padded on the right; positions and the result (B, K), as of `Guardrail`."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return own_logits(self.head, at(hidden, positions))
