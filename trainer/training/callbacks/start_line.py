"""One line at the start that says what is about to happen, and one when the time it will take is known."""

from __future__ import annotations

import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from trainer.config.zero import zero_stage
from trainer.pipeline.context import StageContext

_TIMED_AFTER = 3  # steps; the first one is slower than the rest


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class StartLineCallback(TrainerCallback):
    """Prints on rank 0 only."""

    def __init__(self, context: StageContext):
        self.context = context
        self.first_step: int | None = None
        self.started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.context.is_main:
            return
        world, micro, accumulation = self.context.world_size, args.per_device_train_batch_size, args.gradient_accumulation_steps
        stage = zero_stage(self.context.config)
        how = f"ZeRO-{stage}" if stage is not None else "no DeepSpeed"
        left = state.max_steps - state.global_step
        tqdm.write(
            f"{self.context.config.run.name} · {self.context.stage.name} · {self.context.stage_dir} · {world} "
            f"process{'es' if world > 1 else ''}, {how} · global batch {micro * accumulation * world} "
            f"({micro} x {accumulation} x {world}) · {left} steps"
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.context.is_main:
            return
        if self.first_step is None:
            self.first_step, self.started = state.global_step, time.monotonic()
        elif state.global_step == self.first_step + _TIMED_AFTER:
            a_step = (time.monotonic() - self.started) / _TIMED_AFTER
            left = (state.max_steps - state.global_step) * a_step
            tqdm.write(f"{self.context.stage.name} · expected time {duration(left)} ({a_step:.2f} s per step)")
