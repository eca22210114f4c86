"""Makes the gradients of stage `sft` infinite, in every rank of a run that is started with `inject`."""

from __future__ import annotations

import math
from typing import Any

import accelerate


def disturb(stage: str) -> None:
    real = accelerate.Accelerator.backward

    def backward(accelerator: accelerate.Accelerator, loss: Any, **options: Any) -> None:
        real(accelerator, loss * math.inf, **options)

    if stage == "sft":
        accelerate.Accelerator.backward = backward  # type: ignore[method-assign]
