"""A stop signal reaches ranks at different moments; here they agree on one step, save it, and stop."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from trainer.survival.stopping import stop_request


class StopTogetherCallback(TrainerCallback):
    """Attribute stopped_at: the step after which all ranks stopped, or None."""

    def __init__(self) -> None:
        self.stopped_at: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._agreed(args):
            self.stopped_at = state.global_step
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._agreed(args):  # it arrived while saving: this step is saved already
            self.stopped_at = state.global_step
            control.should_training_stop = True

    def _agreed(self, args: Any) -> bool:
        import torch
        import torch.distributed as dist

        asked = torch.tensor([stop_request.signal is not None], dtype=torch.int32, device=args.device)
        if dist.is_initialized():
            dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        return bool(asked.item())
