"""Training of a gene: the aligned model's answers, and its hidden states, taught to a degraded model (arXiv 2606.06519,
step 1).

B sequences, T tokens, V vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models.utils import prepare_deepspeed

from trainer.methods.safegene.batches import padded
from trainer.methods.safegene.losses import forward_kl, hidden_distance, token_mean
from trainer.models.low_rank import LowRank, low_rank_added


class DistillingTrainer(Trainer):
    """Trains a PEFT model whose adapter is the gene.

    Args:
        mu: weight of the distance between hidden states.
        degradation: what makes the degraded model of the weights below the adapter, which without it are the teacher's.
        teacher: a second model; None where the teacher is the student's own weights, adapter and degradation off.
    """

    loss_is_scaled_for_ga = False  # a mean over sequences: Trainer divides it by the micro-steps

    def __init__(self, *args: Any, mu: float, degradation: Mapping[str, LowRank], teacher: Any, **kwargs: Any):
        pad_token = kwargs["processing_class"].pad_token_id
        kwargs["data_collator"] = lambda rows: padded(rows, pad_token)
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over sequences
        self._mu, self._degradation = mu, degradation
        self._on = True
        if teacher is not None:
            teacher.requires_grad_(False).eval()
            zero3 = is_deepspeed_zero3_enabled()
            self._teacher = prepare_deepspeed(teacher, self.accelerator) if zero3 else teacher.to(self.accelerator.device)
        else:
            self._teacher = None

    def degraded(self) -> AbstractContextManager[None]:
        """Inside, the weights below the adapter are those of the degraded model."""
        inner = self.accelerator.unwrap_model(self.model)
        if not self._degradation:
            return nullcontext()
        return low_rank_added(inner, self._degradation, lambda _site: 1.0 if self._on else 0.0)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        answers = inputs.pop("labels")[:, 1:] != -100  # (B, T - 1): whether the next token is one of the answer
        first = int(answers.any(0).nonzero()[0])
        with torch.no_grad():
            wanted, states = self._ask_teacher(model, inputs, first)
        said, own = _forward(model, inputs, first)
        divergence = token_mean(forward_kl(wanted, said), answers[:, first:])
        distance = token_mean(hidden_distance(states, own), answers[:, first:])
        loss = divergence + self._mu * distance
        return (loss, {"logits": said}) if return_outputs else loss

    def _ask_teacher(self, model: Any, inputs: dict[str, Any], first: int) -> tuple[Tensor, list[Tensor]]:
        if self._teacher is not None:
            return _forward(self._teacher, inputs, first)
        was_training, self._on = model.training, False
        model.eval()
        try:
            with self.accelerator.unwrap_model(model).disable_adapter():
                return _forward(model, inputs, first)
        finally:
            self._on = True
            model.train(was_training)


def _forward(model: Any, inputs: dict[str, Any], first: int) -> tuple[Tensor, list[Tensor]]:
    """From token `first` on, what predicts the next: logits (B, T - 1 - first, V), and h_1 .. h_L, each (B, ..., H)."""
    length = inputs["input_ids"].shape[1]
    output = model(**inputs, output_hidden_states=True, use_cache=False, logits_to_keep=length - first)
    states: Sequence[Tensor] = output.hidden_states[1:]
    return output.logits[:, :-1], [state[:, first:-1] for state in states]
