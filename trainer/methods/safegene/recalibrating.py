"""Recalibration: one scalar per kept layer of a gene, in a task model, and nothing else (arXiv 2606.06519, step 3). Its exact
loss is not public: this one is ours.

    CE(refusals) + eta KL(p_T || p_{T + alpha dW}) on the task + rho ||alpha - 1||^2

B sequences, T tokens, V vocabulary, K scalars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.models.utils import prepare_deepspeed

from trainer.methods.safegene.batches import padded
from trainer.methods.safegene.losses import deviation, forward_kl, reply_loss, token_mean
from trainer.methods.safegene.selection import layer_of
from trainer.models.low_rank import LowRank, low_rank_added

TRAINED = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}  # this stage's own defaults


class Scalars(nn.Module):
    """alpha of every kept layer, 1 at first.

    Args:
        layers: those that are kept.
        shared: one scalar for all of them.
    """

    def __init__(self, layers: Sequence[int], shared: bool = False):
        super().__init__()
        self.layers, self.shared = list(layers), shared
        self.alpha = nn.Parameter(torch.ones(1 if shared else len(self.layers)))

    def forward(self) -> Tensor:
        """(K,)."""
        return self.alpha * 1.0  # not the parameter itself: ZeRO-3 would take it back

    def by_layer(self, values: Sequence[float]) -> dict[int, float]:
        return dict(zip(self.layers, list(values) * (len(self.layers) if self.shared else 1), strict=True))


def recalibration_loss(
    model: Any,
    additions: Mapping[str, LowRank],
    alpha: Mapping[int, Tensor],
    refusals: Mapping[str, Tensor],
    task: Mapping[str, Tensor],
    eta: float,
) -> Tensor:
    """The loss without its last term, which needs no model.

    Args:
        model: the task model, frozen.
        alpha: layer -> its scalar.
        refusals, task: input_ids, attention_mask, labels, each (B, T).
    """

    def strength(site: str) -> Tensor:
        return alpha[layer_of(site)]

    answers = task["labels"][:, 1:] != -100
    with torch.no_grad():
        wanted = _logits(model, task)[:, :-1]
    with low_rank_added(model, additions, strength):
        loss = reply_loss(_logits(model, refusals), refusals["labels"])
        if eta:
            loss = loss + eta * token_mean(forward_kl(wanted, _logits(model, task)[:, :-1]), answers)
    return loss


def _logits(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return logits


class RecalibratingTrainer(Trainer):
    """Trains `Scalars`; every row of the dataset is a pair of a refusal and an example of the task.

    Args:
        task_model: frozen; no part of the trained model, of its optimiser and of its checkpoints.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *args: Any,
        task_model: Any,
        additions: Mapping[str, LowRank],
        eta: float,
        rho: float,
        pad_token: int,
        **kwargs: Any,
    ):
        def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
            return {kind: padded([row[kind] for row in rows], pad_token) for kind in ("refusal", "task")}

        kwargs["data_collator"] = collate
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self._additions, self._eta, self._rho = additions, eta, rho
        task_model.requires_grad_(False).eval()
        zero3 = is_deepspeed_zero3_enabled()
        self._task = prepare_deepspeed(task_model, self.accelerator) if zero3 else task_model.to(self.accelerator.device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        scalars: Scalars = self.accelerator.unwrap_model(self.model)
        values: Tensor = model()
        alpha = dict(zip(scalars.layers, values.expand(len(scalars.layers)), strict=True))
        inner = getattr(self._task, "module", self._task)
        loss = recalibration_loss(inner, self._additions, alpha, inputs["refusal"], inputs["task"], self._eta)
        loss = loss + self._rho * deviation(values.float())
        return (loss, {}) if return_outputs else loss
