"""Weights that ZeRO-3 has split over the ranks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn


def is_sharded(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "ds_id")


def whole(parameters: Iterable[nn.Parameter]) -> AbstractContextManager[Any]:
    """Within this context none of them is a shard; all ranks enter it together, and what one changes there is lost."""
    if not (sharded := [parameter for parameter in parameters if is_sharded(parameter)]):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(sharded)
    return gathered
