"""A loss that is not finite, or explodes, is noticed before its gradient is used: stop, or skip that batch, on every rank."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file

from trainer.config.sections import SurvivalSection
from trainer.errors import BadLoss
from trainer.pipeline.any_rank import any_rank
from trainer.pipeline.context import StageContext

_WINDOW = 20  # micro-steps in the running median
BAD_BATCHES = "bad_batches"


class LossGuard:
    """Stands between Trainer and its `compute_loss`. Attribute skipped: batches skipped so far."""

    def __init__(self, context: StageContext, settings: SurvivalSection, tokenizer: Any):
        self.context = context
        self.settings = settings
        self.tokenizer = tokenizer
        self.skipped = 0
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._reference: float | None = None  # the highest running median so far
        self._good_inputs: Any = None

    def attach(self, trainer: Any) -> None:
        inner: Callable[..., Any] = trainer.compute_loss

        def guarded(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not model.training:
                return inner(model, inputs, *args, **kwargs)
            kept = dict(inputs)  # the trainers take what they need out of it
            outcome = inner(model, inputs, *args, **kwargs)
            loss = outcome[0] if isinstance(outcome, tuple) else outcome
            value = float(loss.detach())
            bad = self._is_bad(value)
            if not any_rank(bad, loss.device):
                self._remember(value)
                self._good_inputs = kept
                return outcome
            self._report(kept, value, bad, trainer.state.global_step)
            self.skipped += 1
            # Every parameter needs a gradient, and sharded ones the usual collectives: a good batch's, times nothing.
            outcome = inner(model, dict(self._good_inputs), *args, **kwargs)
            return (outcome[0] * 0.0, *outcome[1:]) if isinstance(outcome, tuple) else outcome * 0.0

        trainer.compute_loss = guarded

    def _is_bad(self, value: float) -> bool:
        if not math.isfinite(value):
            return True
        margin = self.settings.explosion
        return margin is not None and self._reference is not None and value > self._reference + margin

    def _remember(self, value: float) -> None:
        self._recent.append(value)
        if len(self._recent) == _WINDOW:
            now = median(self._recent)
            self._reference = now if self._reference is None else max(self._reference, now)

    def _report(self, inputs: dict[str, Any], value: float, bad: bool, done: int) -> None:
        """Write the batch of every rank that had a bad loss; stop where that is the policy or nothing else is possible.

        Raises:
            BadLoss: on all ranks.
        """
        step = done + 1
        losses = self.context.gather((value, bad))
        culprits = [rank for rank, (_, was_bad) in enumerate(losses) if was_bad]
        if bad:
            self._write_batch(inputs, value, step)
        shown = ", ".join(f"{losses[rank][0]:.4g} on rank {rank}" for rank in culprits)
        where = self.context.stage_dir / BAD_BATCHES
        compared = "" if self._reference is None else f" (running median at most {self._reference:.4g})"
        what = f"stage {self.context.stage.name}: the loss of step {step} is {shown}{compared}; the batch is in {where}"
        if self.settings.bad_loss == "stop":
            raise BadLoss(
                f"{what}. A lower learning rate or max_grad_norm is the usual cure; survival.bad_loss=skip goes on without it."
            )
        if self._good_inputs is None:
            raise BadLoss(f"{what}. It is the first batch of this start, so the data or the weights themselves are bad.")
        if self.context.is_main:
            print(f"{what}; skipped.", flush=True)

    def _write_batch(self, inputs: dict[str, Any], value: float, step: int) -> None:
        directory = self.context.stage_dir / BAD_BATCHES
        directory.mkdir(exist_ok=True)
        stem = directory / f"step{step}-rank{self.context.rank}"
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in inputs.items() if isinstance(v, torch.Tensor)}
        save_file(tensors, Path(f"{stem}.safetensors"))
        parts = [tensors[name] for name in ("input_ids", "prompt_ids", "completion_ids") if name in tensors]
        texts = self.tokenizer.batch_decode(torch.cat(parts, dim=-1)) if parts else None
        Path(f"{stem}.json").write_text(json.dumps({"step": step, "loss": str(value), "texts": texts}, indent=1))
