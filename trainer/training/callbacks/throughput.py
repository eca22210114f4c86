"""How fast training runs, between one line of the log and the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from trainer.pipeline.meter import Meter, peak_memory

TOKENS = "num_tokens"  # TRL's: of all ranks, since this start, or since the first where it is on-policy


class Throughput:
    """Tells the stage's meter the tokens that training has read."""

    def __init__(self, meter: Meter):
        self.meter = meter
        self.step, self.tokens, self.time = 0, 0.0, 0.0

    def begin(self, state: Any) -> None:
        """state: Trainer's, with what a checkpoint has brought."""
        self.step, self.tokens, self.time = state.global_step, float(state.num_input_tokens_seen), time.monotonic()

    def since(self, step: int, logs: Mapping[str, Any]) -> dict[str, float]:
        """Seconds a step, GiB of this process (or of its GPU) at most so far, and tokens a second where they are counted; what
        else happened in between, such as saving, counts. Empty where no step was taken."""
        steps, tokens, now = step - self.step, logs.get(TOKENS), time.monotonic()
        if steps <= 0:
            return {}
        seconds = now - self.time
        found = {"throughput/step_seconds": seconds / steps, "throughput/peak_memory": peak_memory()}
        if tokens is not None:
            self.meter.count(int(tokens - self.tokens))
            found["throughput/tokens_per_second"] = (tokens - self.tokens) / seconds
            self.tokens = tokens
        self.step, self.time = step, now
        return found
