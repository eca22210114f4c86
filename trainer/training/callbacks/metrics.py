"""Training metrics to the tracker, and how fast it goes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

from trainer.config.devices import peak_flops
from trainer.pipeline.meter import Meter
from trainer.tracking.tracker import Tracker
from trainer.training.callbacks.throughput import Throughput


class MetricsCallback(TrainerCallback):
    def __init__(self, tracker: Tracker, meter: Meter, ranks: int):
        self.tracker = tracker
        gpu = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self.throughput = Throughput(meter, None if gpu is None else gpu * ranks)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.throughput.begin(state, model)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero:  # it logs and counts for all
            return
        values = {_named(key): value for key, value in (logs or {}).items() if isinstance(value, int | float)}
        self.tracker.log(values | self.throughput.since(state.global_step, logs or {}), state.global_step)


def _named(key: str) -> str:
    """Trainer's name of a metric -> ours: what it calls `eval_` is of the rows that are held out."""
    return f"validation/{key.removeprefix('eval_')}" if key.startswith("eval_") else f"train/{key}"
