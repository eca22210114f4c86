"""Checkpoints are read by torch's restricted unpickler: it makes tensors, plain values and what it is told to; it runs no code.

DeepSpeed asks for the other one, which runs whatever a pickle says, although its shards hold but three classes of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch reads it in every torch.load


@contextmanager
def restricted(deepspeed: bool) -> Iterator[None]:
    """In this block `torch.load` raises `pickle.UnpicklingError` for what could run code, whoever calls it and how.

    Args:
        deepspeed: whether shards of DeepSpeed's are loaded.
    """
    from torch.serialization import safe_globals

    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        with safe_globals(_classes_in_shards() if deepspeed else []):
            yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _classes_in_shards() -> list[Any]:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [LossScaler, ZeroStageEnum, fragment_address]
