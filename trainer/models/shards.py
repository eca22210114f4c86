"""Weights that ZeRO-3 has split over the ranks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn


def is_sharded(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "ds_id")


def whole(parameters: Iterable[nn.Parameter], changed_on: int | None = None) -> AbstractContextManager[Any]:
    """Within this context none of them is a shard; all ranks enter it together.

    Args:
        changed_on: the rank whose changes stay; None: all changes are lost.
    """
    if not (sharded := [parameter for parameter in parameters if is_sharded(parameter)]):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(sharded, modifier_rank=changed_on)
    return gathered
