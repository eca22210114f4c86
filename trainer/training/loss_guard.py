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
from peft import PeftModel
from safetensors.torch import save_file
from transformers import PreTrainedModel

from trainer.config.sections import SurvivalSection
from trainer.errors import BadLoss
from trainer.pipeline.any_rank import any_rank
from trainer.pipeline.context import StageContext

_WINDOW = 20  # micro-steps in the running median
_CHANCE = 0.9  # of ln V, the nats per token by chance among V words: more is lost by a model that knows nothing
_KNOWING = 0.5  # of ln V: less is lost by a model that knows something
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
        self._good_value = math.nan  # that loss
        self._reply: dict[str, torch.Tensor] = {}  # a text (1, T) with a mask of its reply, the last preferred one if any was
        self._is_preferred = False
        self._nats_before: float | None = None  # what the first reply cost, before this start changed anything
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        inner: Callable[..., Any] = trainer.compute_loss
        self._trainer = trainer

        def guarded(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not trainer.model.training:  # DeepSpeed's engine around it always says that it trains
                return inner(model, inputs, *args, **kwargs)
            call = _Call(inner, model, dict(inputs), args, kwargs)
            outcome = call.outcome()
            value, device = _value(outcome)
            bad = self.is_bad(value)
            if not any_rank(bad, device):
                self._remember(value)
                first, self._good, self._good_value = self._good is None, call, value
                self._keep_reply(call.inputs)
                if first:
                    self._nats_before = self._nats_now()
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

    def ruin_now(self) -> str | None:
        """What shows, on this rank, that the weights as they are now are ruined; None where nothing does. A collective where
        they are sharded.

        The last good batch is asked once more: its loss cannot explode by an update that it was part of. Losses of pairs and of
        single replies hardly tell a model that knows nothing from another, so a preferred reply is read as well.
        """
        loss, nats, before = self.loss_now(), self._nats_now(), self._nats_before
        if loss is not None and self.is_ruined(loss):
            return f"a good batch now has a loss of {loss:.4g}"
        if nats is None or before is None or not self._is_preferred:
            return None
        if math.isnan(nats) or self._lost_all(nats, before):
            return f"a preferred reply now costs {nats:.4g} nats per token, as by chance, and one cost {before:.4g} before"
        return None

    def is_ruined(self, loss: float) -> bool:
        """Whether the last good batch can only have this loss where the weights are ruined."""
        return self.is_bad(loss) or self._exploded(loss, self._good_value)

    def is_bad(self, value: float) -> bool:
        """Whether a loss is not finite, or exploded: its distance to the highest running median is measured by that median
        itself, since losses have different units, and by 1 (nat) where the median is less. As long as there is no such median,
        that of the losses so far serves, and only what is as bad as chance counts."""
        if not math.isfinite(value):
            return True
        if self._reference is not None:
            return self._exploded(value, self._reference)
        return bool(self._recent) and self._lost_all(value, median(self._recent))

    def _lost_all(self, nats: float, before: float) -> bool:
        """Whether a model that lost so many nats per token before knows nothing any more."""
        config = getattr(self._trainer.model, "config", None)
        words = 1 if config is None else config.get_text_config().vocab_size
        chance = math.log(words)
        return self.settings.explosion is not None and nats > _CHANCE * chance and before < _KNOWING * chance

    def _exploded(self, value: float, reference: float) -> bool:
        margin = self.settings.explosion
        return margin is not None and value > reference + margin * max(1.0, abs(reference))

    def _keep_reply(self, inputs: Mapping[str, Any]) -> None:
        names = ("input_ids", "attention_mask", "completion_mask")  # what was sampled by the model itself has other ones
        if not inputs.keys() >= set(names) or not isinstance(self._trainer.model, (PreTrainedModel, PeftModel)):
            return
        preferred = [bool(label) for label in inputs["label"]] if "label" in inputs else [True]  # DPO has the chosen ones first
        if True in preferred or not self._reply:
            self._is_preferred = self._is_preferred or True in preferred
            place = preferred.index(True) if True in preferred else 0
            self._reply = {name: inputs[name][place : place + 1] for name in names}

    def _nats_now(self) -> float | None:
        """What a token of the reply costs, in nats; None where no language model reads any. All ranks take part."""
        if not self._reply:
            return None
        assert self._good is not None
        text, of_reply = self._reply, self._reply["completion_mask"]
        labels = text["input_ids"].masked_fill(of_reply == 0, -100)
        model = self._good.model
        model.eval()
        with torch.no_grad():  # TRL's way, which makes no logits
            output = model(
                input_ids=text["input_ids"],
                attention_mask=text["attention_mask"],
                labels=labels,
                use_cache=False,
                fused_lm_head=True,
            )
        model.train()
        return float(-output.log_probs.float().sum() / of_reply[:, 1:].sum())

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
        if any_rank(self.is_ruined(now), device):
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
