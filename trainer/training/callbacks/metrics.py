"""Training metrics to the tracker."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from trainer.tracking.tracker import Tracker


class MetricsCallback(TrainerCallback):
    def __init__(self, tracker: Tracker):
        self.tracker = tracker

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        values = {_named(key): value for key, value in (logs or {}).items() if isinstance(value, int | float)}
        self.tracker.log(values, state.global_step)


def _named(key: str) -> str:
    """Trainer's name of a metric -> ours: what it calls `eval_` is of the rows that are held out."""
    return f"validation/{key.removeprefix('eval_')}" if key.startswith("eval_") else f"train/{key}"
