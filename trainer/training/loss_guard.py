"""A loss that is not finite, or explodes, is noticed before its gradient is used: stop, or skip that batch, on every rank."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
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


def start_again_slower(context: StageContext) -> str:
    """The way out where a step was too large."""
    training, rate = context.training, "learning_rate"
    section = "trainer" if rate in context.config.trainer else training.section
    key = f"learning rate of {training.variant}" if rate in training.fields else f"{section}.{rate}"
    return f"Start again with a lower {key} and run.on_existing=resume: what that changes begins anew."


@dataclass(frozen=True)
class _Call:
    """A call of `compute_loss`, to be made once more."""

    compute_loss: Callable[..., Any]
    model: Any
    inputs: Mapping[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def outcome(self) -> Any:
        return self.compute_loss(self.model, dict(self.inputs), *self.args, **self.kwargs)  # which takes things out of it


class LossGuard:
    """Stands between Trainer and its `compute_loss`. Attribute skipped: batches skipped so far."""

    def __init__(self, context: StageContext, settings: SurvivalSection, tokenizer: Any):
        self.context = context
        self.settings = settings
        self.tokenizer = tokenizer
        self.skipped = 0
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._reference: float | None = None  # the highest running median so far
        self._good: _Call | None = None  # the last one whose loss was good on all ranks
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        inner: Callable[..., Any] = trainer.compute_loss
        self._trainer = trainer

        def guarded(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not model.training:
                return inner(model, inputs, *args, **kwargs)
            call = _Call(inner, model, dict(inputs), args, kwargs)
            outcome = call.outcome()
            value, device = _value(outcome)
            bad = self.is_bad(value)
            if not any_rank(bad, device):
                self._remember(value)
                self._good = call
                return outcome
            self._report(call.inputs, value, bad, device)
            self.skipped += 1
            # Every parameter needs a gradient, and sharded ones the usual collectives: a good batch's, times nothing.
            assert self._good is not None  # or else the report raises
            outcome = self._good.outcome()
            return (outcome[0] * 0.0, *outcome[1:]) if isinstance(outcome, tuple) else outcome * 0.0

        trainer.compute_loss = guarded

    def loss_now(self) -> float | None:
        """What the weights as they are now give for the last good batch; None where there was none. A collective where the
        weights are sharded. It leaves no trace: neither in the metrics nor in the random state."""
        if self._good is None:
            return None
        model, metrics = self._good.model, deepcopy(getattr(self._trainer, "_metrics", None))
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices):
            value, _ = _value(self._good.outcome())
        model.train()
        if metrics is not None:  # TRL's
            self._trainer._metrics = metrics
        return value

    def is_bad(self, value: float) -> bool:
        """Whether a loss is not finite, or exploded: its distance to the highest running median is measured by that median
        itself, since losses have different units, and by 1 (nat) where the median is less."""
        if not math.isfinite(value):
            return True
        margin, reference = self.settings.explosion, self._reference
        return margin is not None and reference is not None and value > reference + margin * max(1.0, abs(reference))

    def _remember(self, value: float) -> None:
        self._recent.append(value)
        if len(self._recent) == _WINDOW:
            now = median(self._recent)
            self._reference = now if self._reference is None else max(self._reference, now)

    def _report(self, inputs: Mapping[str, Any], value: float, bad: bool, device: torch.device) -> None:
        """Write the batch of every rank that had a bad loss; stop where that is the policy or nothing else is possible.

        Raises:
            BadLoss: on all ranks.
        """
        step = self._trainer.state.global_step + 1
        losses = self.context.gather((value, bad))
        culprits = [rank for rank, (_, was_bad) in enumerate(losses) if was_bad]
        if bad:
            self._write_batch(inputs, value, step)
        shown = ", ".join(f"{losses[rank][0]:.4g} on rank {rank}" for rank in culprits)
        where = self.context.stage_dir / BAD_BATCHES
        compared = "" if self._reference is None else f" (running median at most {self._reference:.4g})"
        what = f"stage {self.context.stage.name}: the loss of step {step} is {shown}{compared}; the batch is in {where}"
        now = self.loss_now()
        if now is None:
            raise BadLoss(
                f"{what}. It is the first batch of this start, so the data or the weights themselves are bad, and it cannot be "
                f"skipped. Mend that row or leave it out; if it is sound, delete {self.context.stage_dir}, so that this stage "
                "begins anew, or give another base."
            )
        if any_rank(self.is_bad(now), device):
            raise BadLoss(
                f"{what}. So is that of a batch that was good before ({now:.4g}): a step has ruined the weights. "
                f"{start_again_slower(self.context)}"
            )
        if self.settings.bad_loss == "stop":
            exploded = all(math.isfinite(losses[rank][0]) for rank in culprits)
            allow = ", or survival.explosion=null where such losses are healthy" if exploded else ""
            raise BadLoss(
                f"{what}. Start again with survival.bad_loss=skip, which goes on without such batches{allow}. "
                f"Or: {start_again_slower(self.context)}"
            )
        if self.context.is_main:
            print(f"{what}; skipped.", flush=True)

    def _write_batch(self, inputs: Mapping[str, Any], value: float, step: int) -> None:
        directory = self.context.stage_dir / BAD_BATCHES
        directory.mkdir(exist_ok=True)
        stem = directory / f"step{step}-rank{self.context.rank}"
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in inputs.items() if isinstance(v, torch.Tensor)}
        save_file(tensors, Path(f"{stem}.safetensors"))
        parts = [tensors[name] for name in ("input_ids", "prompt_ids", "completion_ids") if name in tensors]
        texts = self.tokenizer.batch_decode(torch.cat(parts, dim=-1)) if parts else None
        Path(f"{stem}.json").write_text(json.dumps({"step": step, "loss": str(value), "texts": texts}, indent=1))


def _value(outcome: Any) -> tuple[float, torch.device]:
    """The loss of what `compute_loss` returned, and where it is."""
    loss: torch.Tensor = outcome[0] if isinstance(outcome, tuple) else outcome
    return float(loss.detach()), loss.device
