"""A measured all-reduce over the ranks of this stage, its sum checked."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import torch.distributed as dist

from trainer.doctor.checks import AllReduce
from trainer.pipeline.context import StageContext

_REPEATS = 10
_LARGE = {"cuda": 64 << 20, "cpu": 16 << 20}  # bytes


def device() -> str:
    """Where the tensors of training live, and so which network they take."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def backend() -> str:
    """The library that carries tensors of that device between ranks."""
    return "nccl" if device() == "cuda" else "gloo"


def timed_sum(context: StageContext, numbers: int) -> tuple[bool, float]:
    """Add up every rank's number + 1 in a tensor of that many. Returns whether the sum was right, and the seconds."""
    values: Any = torch.full((numbers,), float(context.rank + 1), device=device())
    _wait()
    started = time.perf_counter()
    dist.all_reduce(values)
    _wait()
    seconds = time.perf_counter() - started
    expected = context.world_size * (context.world_size + 1) / 2
    return bool((values == expected).all()), seconds


def measure(context: StageContext) -> AllReduce | None:
    """Latency of one number, and time of a large tensor; the median of several. None for a single rank."""
    if context.world_size == 1:
        return None
    size = _LARGE[device()]
    timed_sum(context, 1)  # makes the connections
    small = [timed_sum(context, 1) for _ in range(_REPEATS)]
    large = [timed_sum(context, size // 4) for _ in range(_REPEATS // 2)]
    right = context.gather(all(good for good, _ in small + large))
    return AllReduce(
        backend(),
        [rank for rank, good in enumerate(right) if not good],
        statistics.median(seconds for _, seconds in small),
        size,
        statistics.median(seconds for _, seconds in large),
    )


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
