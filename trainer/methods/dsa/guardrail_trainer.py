"""Training of one guardrail: binary cross-entropy over the labels that a text has (arXiv 2506.00166; the loss is ours).

B batch, T tokens, K labels, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models.utils import prepare_deepspeed

from trainer.methods.dsa.base import read
from trainer.methods.dsa.batches import shares


def guardrail_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the rows of the mean cross-entropy (nats) over a row's labels; a prompt and its response count half each.

    Args:
        logits: (B, K).
        labels: (B, K), probabilities of unsafe; below 0 where one is not known. Every row has at least one.
    """
    known = (labels >= 0).float()
    terms = binary_cross_entropy_with_logits(logits.float(), labels.clamp(min=0).float(), reduction="none")
    return ((terms * known).sum(-1) / known.sum(-1)).mean()


class GuardrailTrainer(Trainer):
    """Trainer for a `Guardrail`, a `Standalone` or a `FullSize`; batches are a `Collator`'s.

    Args:
        base: the frozen base that an adapter reads; None where batches hold its hidden states, or nothing is read. Only the
            guardrail is a part of the trained model, of its optimiser and of its checkpoints.
    """

    loss_is_scaled_for_ga = False  # a mean over rows: Trainer divides it by the micro-steps

    def __init__(self, *args: Any, base: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._base = base
        if base is not None and is_deepspeed_zero3_enabled():
            self._base = prepare_deepspeed(base, self.accelerator)
        elif base is not None:
            self._base = base.to(self.accelerator.device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits = self._logits(model, inputs)
        loss = guardrail_loss(logits, inputs["labels"])
        return (loss, {"logits": logits}) if return_outputs else loss

    def _logits(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """(B, K)."""
        first, mask = inputs.get("hidden", inputs.get("input_ids")), inputs["attention_mask"]
        if self._base is not None:
            first = read(self._base, inputs["input_ids"], mask, logits_to_keep=1).hidden_states
        logits: Tensor = model(first, mask, inputs["positions"])
        return logits

    @torch.no_grad()
    def share_of_probabilities(self, rows: Sequence[int], lengths: Sequence[int]) -> dict[int, list[float]]:
        """Row -> the probability of unsafe for each label, of this rank's share of these rows; every row is in a share.

        Args:
            lengths: (N,), tokens of every row that the collator has.
        """
        model: Any = self.model_wrapped
        if not self.is_deepspeed_enabled:  # without autocast, as an adapter is used
            model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        model.eval()
        found: dict[int, list[float]] = {}
        size, rank, world = self.args.per_device_train_batch_size, self.args.process_index, self.args.world_size
        batches = list(shares([lengths[row] for row in rows], size, rank, world))
        for places in tqdm(batches, desc="probabilities", unit="batch", disable=rank > 0):
            of_batch = [rows[place] for place in places]
            inputs = self._prepare_inputs(self.data_collator([{"row": row} for row in of_batch]))
            found.update(zip(of_batch, self._logits(model, inputs).float().sigmoid().tolist(), strict=True))
        return found
