"""A progress bar with the numbers one watches; Trainer's own prints every metric on a line of its own."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

_WATCHED = {
    "loss": "loss",
    "mean_token_accuracy": "token acc",
    "rewards/accuracies": "pair acc",
    "rewards/margins": "margin",
    "eval_loss": "held out",
}


class ProgressBarCallback(TrainerCallback):
    """One bar over optimiser steps. For rank 0."""

    def __init__(self, stage: str):
        self.stage = stage
        self.bar: tqdm[Any] | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.stage, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.bar is not None:
            self.shown |= {name: f"{float(logs[key]):.3g}" for key, name in _WATCHED.items() if logs and key in logs}
            self.bar.set_postfix(self.shown, refresh=False)

    def close(self) -> None:
        """Also where training failed: an open bar would move what is printed next."""
        if self.bar is not None:
            self.bar.close()
