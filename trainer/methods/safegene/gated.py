"""A gene that a guardrail turns on per prompt: W + lambda(x) alpha dW, so that harmless prompts meet the untouched task model.

The guardrail is one of DSA's (arXiv 2506.00166), which reads the model that it was trained on; so that model reads every prompt
first, once.

B batch, P tokens of the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.errors import ArtifactError
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.base import read
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.inference import OnBase, p_unsafe
from trainer.methods.safegene.selection import layer_of
from trainer.models.fingerprint import base_fingerprint
from trainer.models.low_rank import LowRank, low_rank_added


class GatedModel(OnBase):
    """
    Args:
        reader: the model that the guardrail reads.
        task_model: on the same device, without its gene.
        additions, alpha: the gene's kept layers, and their scalars.
    """

    def __init__(
        self, reader: Any, guardrail: Guardrail, gate: Gate, task_model: Any, additions: Mapping[str, LowRank],
        alpha: Mapping[int, float],
    ):  # fmt: skip
        super().__init__(task_model)
        self.reader, self.guardrail, self.gate = reader, guardrail, gate
        self.additions, self.alpha = additions, alpha

    def eval(self) -> GatedModel:
        for module in (self.reader, self.guardrail, self.base):
            module.eval()
        return self

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        """The task model's `generate`, one reply per prompt; the gene acts in rows that the guardrail finds unsafe.

        Args:
            input_ids, attention_mask: (B, P), padded on the left.
        """
        states = read(self.reader, input_ids, attention_mask, logits_to_keep=1).hidden_states
        strength = self.gate(p_unsafe(self.guardrail, states, attention_mask))  # (B,)
        with low_rank_added(self.base, self.additions, lambda site: strength * self.alpha[layer_of(site)]):
            return self.base.generate(input_ids=input_ids, attention_mask=attention_mask, **options)


def gated_model(
    reader: Any,
    reader_path: str,
    guardrail: Path,
    task_model: Any,
    additions: Mapping[str, LowRank],
    alpha: Mapping[int, float],
) -> GatedModel:
    """
    Args:
        guardrail: its directory.

    Raises:
        ArtifactError: it is missing or damaged, of another model, or judges no prompts.
    """
    found = load(guardrail, reader, base_fingerprint(reader_path))
    if not isinstance(found, Guardrail) or found.tau is None or "prompt" not in found.labels:
        raise ArtifactError(f"method.guardrail: {guardrail} is no guardrail of prompts with a threshold; give that of one.")
    return GatedModel(reader, found, Gate(found.tau), task_model, additions, alpha)
