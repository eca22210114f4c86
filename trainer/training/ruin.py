"""A model that a step has ruined is noticed at that step, or at the latest before it is saved: on all ranks together."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from trainer.errors import BadLoss
from trainer.models.finite import ruined
from trainer.pipeline.any_rank import any_rank
from trainer.pipeline.context import StageContext
from trainer.training.loss_guard import LossGuard, start_again_slower


class RuinCallback(TrainerCallback):
    """Looks at the gradient of every step, and at the weights of every step that is saved or the last. For all ranks.

    Attributes:
        guard: judges the loss that the weights give.
    """

    def __init__(self, context: StageContext, trainer: Any, guard: LossGuard):
        self.context = context
        self.trainer = trainer
        self.guard = guard
        self.left_out = 0
        self._watch_gradient(trainer.accelerator)

    def _watch_gradient(self, accelerator: Any) -> None:
        """Before it is clipped: clipping turns an infinite gradient into none at all."""
        inner = accelerator.clip_grad_norm_

        def watched(*args: Any, **kwargs: Any) -> Any:
            norm = inner(*args, **kwargs)
            # DeepSpeed has no norm without ZeRO, and calls one that is not finite -1
            if norm is not None and any_rank(not 0 <= float(norm) < math.inf, self.trainer.args.device):
                step = self.trainer.state.global_step + 1
                self._fail(f"the gradient of step {step} is not finite (its norm is {float(norm):g})")
            return norm

        accelerator.clip_grad_norm_ = watched

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.left_out = self._left_out()

    def _left_out(self) -> int:
        """Steps that DeepSpeed has left out because of an overflow in them, which it says nowhere; the same on all ranks."""
        return int(getattr(self.trainer.model_wrapped, "skipped_steps", 0))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if self._left_out() > self.left_out:
            self._fail(f"the gradient of step {state.global_step} is not finite, and DeepSpeed left the step out")
        if control.should_save or control.should_training_stop:
            self._look_at_weights(args, state, model)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if control.should_save:
            self._look_at_weights(args, state, model)

    def _look_at_weights(self, args: Any, state: Any, model: Any) -> None:
        names = ruined((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        if any_rank(bool(names), args.device):
            shown = ", ".join(names[:3]) or "on another rank"
            self._fail(f"the weights after step {state.global_step} are not finite ({shown})")
        ruin = self.guard.ruin_now()
        if any_rank(ruin is not None, args.device):
            self._fail(f"the weights of step {state.global_step} are ruined: {ruin or 'another rank finds so'}")

    def _fail(self, what: str) -> None:
        """Raises: BadLoss."""
        raise BadLoss(f"stage {self.context.stage.name}: {what}; nothing of it is saved. {start_again_slower(self.context)}")
