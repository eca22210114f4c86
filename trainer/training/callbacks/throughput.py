"""How fast training runs, between one line of the log and the next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from trainer.pipeline.meter import Meter, peak_memory

TOKENS = "num_tokens"  # TRL's: of all ranks, since this start, or since the first where it is on-policy


class Throughput:
    """Tells the stage's meter the tokens that training has read.

    Args:
        peak: FLOP/s of all ranks' GPUs together; None where it is not known.
    """

    def __init__(self, meter: Meter, peak: float | None):
        self.meter, self.peak = meter, peak
        self.step, self.tokens, self.time = 0, 0.0, 0.0
        self.flops = 0.0  # of a token

    def begin(self, state: Any, model: Any) -> None:
        """state: Trainer's, with what a checkpoint has brought."""
        self.step, self.tokens, self.time = state.global_step, float(state.num_input_tokens_seen), time.monotonic()
        self.flops = flops_per_token(model)

    def since(self, step: int, logs: Mapping[str, Any]) -> dict[str, float]:
        """Seconds per step; GiB of this process, or of its GPU, at most so far; where tokens are counted, tokens per second and
        MFU, the share of the GPUs' peak that the weights' products take. What else happened in between, such as saving, counts.
        Empty where no step was taken."""
        steps, tokens, now = step - self.step, logs.get(TOKENS), time.monotonic()
        if steps <= 0:
            return {}
        seconds = now - self.time
        found = {"throughput/step_seconds": seconds / steps, "throughput/peak_memory": peak_memory()}
        if tokens is not None:
            self.meter.count(int(tokens - self.tokens))
            found["throughput/tokens_per_second"] = (tokens - self.tokens) / seconds
            if self.peak is not None:
                found["throughput/mfu"] = (tokens - self.tokens) * self.flops / seconds / self.peak
            self.tokens = tokens
        self.step, self.time = step, now
        return found


def flops_per_token(model: Any) -> float:
    """Of the weights' products, forward and backward: 4 per parameter, for its output and for its input's gradient, and 2 more
    where it is trained. Attention between tokens, and what is computed twice to save memory, do not count."""
    sizes = [(getattr(weight, "ds_numel", weight.numel()), weight.requires_grad) for weight in model.parameters()]
    return float(sum(size * (6 if trained else 4) for size, trained in sizes))
