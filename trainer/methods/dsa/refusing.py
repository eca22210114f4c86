"""A guardrail alone: the base, and a fixed reply to prompts that are flagged. What targeted alignment is compared with.

B batch, P tokens of the prompt, N tokens of the reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.methods.dsa.base import read
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.inference import OnBase, p_unsafe


class RefusingModel(OnBase):
    """Replies `refusal` (token ids) where the guardrail's probability of unsafe is at least the threshold tau."""

    def __init__(self, base: Any, guardrail: Guardrail, threshold: float, refusal: Sequence[int]):
        super().__init__(base)
        self.guardrail, self.threshold, self.refusal = guardrail, threshold, list(refusal)

    def eval(self) -> RefusingModel:
        self.base.eval()
        self.guardrail.eval()
        return self

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, pad_token_id: int, **options: Any) -> Tensor:
        """The base's `generate`, with the refusal in flagged rows.

        Args:
            input_ids, attention_mask: (B, P), padded on the left.

        Returns:
            (B, P + N) token ids.
        """
        flagged = p_unsafe(
            self.guardrail, read(self.base, input_ids, attention_mask, logits_to_keep=1).hidden_states, attention_mask
        )
        output: Tensor = self.base.generate(
            input_ids=input_ids, attention_mask=attention_mask, pad_token_id=pad_token_id, **options
        )
        prompt = input_ids.shape[1]
        output = pad(output, (0, max(0, prompt + len(self.refusal) - output.shape[1])), value=pad_token_id)
        reply = torch.tensor(self.refusal, device=output.device)
        reply = pad(reply, (0, output.shape[1] - prompt - len(reply)), value=pad_token_id)
        output[flagged >= self.threshold, prompt:] = reply
        return output
