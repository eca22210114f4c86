"""A stop signal reaches ranks at different moments; here they agree on one step, save it, and stop."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from trainer.pipeline.any_rank import any_rank
from trainer.stopping import stop_request


class StopTogetherCallback(TrainerCallback):
    """Attribute stopped_at: the step after which all ranks stopped, or None."""

    def __init__(self) -> None:
        self.stopped_at: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if any_rank(stop_request.signal is not None, args.device):
            self.stopped_at = state.global_step
            control.should_save = True
            control.should_training_stop = True
            control.should_evaluate = False  # there may be no time; `Validation` makes up for it

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopped_at is not None:  # Trainer calls this in the middle of an epoch, too
            control.should_evaluate = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if any_rank(stop_request.signal is not None, args.device):  # it arrived while saving: this step is saved already
            self.stopped_at = state.global_step
            control.should_training_stop = True
