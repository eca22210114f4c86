"""How strongly to align, from what the guardrail says of the prompt (arXiv 2506.00166, targeted alignment; the ramp is ours).

Shapes: B batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from trainer.errors import ConfigError


@dataclass(frozen=True)
class Gate:
    """A step, or a ramp:

        width = 0:  strength = maximum if p >= threshold else 0
        width > 0:  strength = maximum * clip((p - (threshold - width/2)) / width, 0, 1)

    The ramp is at half of its maximum where the step is. Where it would end beyond p = 1, its maximum is never reached.

    Attributes:
        threshold: tau.
        maximum: the strength of a prompt that is surely unsafe.
        width: of the ramp, in units of p.

    Raises:
        ConfigError: a number is not finite, the maximum is not positive, or the width is negative.
    """

    threshold: float
    maximum: float = 1.0
    width: float = 0.0

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in (self.threshold, self.maximum, self.width))
        if not finite or self.maximum <= 0 or self.width < 0:
            raise ConfigError(
                f"gate: threshold {self.threshold:g}, maximum {self.maximum:g} and width {self.width:g} make no gate; they "
                "must be finite, with a positive maximum and a width of 0 (a step) or more."
            )

    def __call__(self, p_unsafe: Tensor) -> Tensor:
        """The strength (B,) of prompts that are unsafe with probability `p_unsafe` (B,). One that is not a number counts as 1:
        a broken guardrail does not switch alignment off.
        """
        p = p_unsafe.nan_to_num(nan=1.0)
        open_by = ((p - self.threshold) / self.width + 0.5).clamp(0, 1) if self.width else (p >= self.threshold).to(p.dtype)
        return self.maximum * open_by
