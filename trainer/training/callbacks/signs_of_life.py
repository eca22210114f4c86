"""Steps of training as signs of life, for the watchdog of this process."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from trainer.pipeline.watchdog import beat, in_step


class SignsOfLifeCallback(TrainerCallback):
    """The last of the callbacks: what the others do at the end of a step is not part of it, a save for instance."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        in_step(True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        in_step(False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        in_step(False)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        beat()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        beat()
