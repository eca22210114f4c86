"""Measures what this rank takes of the machine."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import torch

from trainer.pipeline.cost import EARLIER, Cost

GIB = 1 << 30


class Meter:
    """Attribute tokens: raised by training on rank 0, which knows those of all ranks; None as long as none are counted."""

    def __init__(self) -> None:
        self.tokens: int | None = None
        self._started, self._cpu, self._energy = time.monotonic(), time.process_time(), _joules()

    def count(self, tokens: int) -> None:
        self.tokens = (self.tokens or 0) + tokens

    def read(self) -> Cost:
        """What this rank has taken since the meter was made."""
        if not torch.cuda.is_initialized():
            return Cost("CPU", None, (time.process_time() - self._cpu) / 3600, self.tokens, peak_memory(), None)
        now = _joules()
        energy = None if now is None or self._energy is None else (now - self._energy) / 3.6e6
        hours = (time.monotonic() - self._started) / 3600
        return Cost(torch.cuda.get_device_name(), hours, None, self.tokens, peak_memory(), energy)

    @contextmanager
    def kept_if_it_fails(self, stage_dir: Path, rank: int) -> Iterator[None]:
        """Writes down what this start took where it does not finish the stage. A process that is killed cannot."""
        try:
            yield
        except BaseException:
            path = stage_dir / EARLIER / f"rank{rank}.jsonl"
            with suppress(OSError):  # a full disk may be why it does not finish
                path.parent.mkdir(exist_ok=True)
                with path.open("a") as file:
                    file.write(json.dumps(asdict(self.read())) + "\n")
            raise


def peak_memory() -> float:
    """GiB: what torch has had allocated on this rank's GPU at most, or without one the process's largest resident set."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def _joules() -> float | None:
    """What this rank's GPU has used since its driver was loaded; None where there is none, or it does not say."""
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml  # comes with DeepSpeed
    except ImportError:
        return None
    local, visible = int(os.environ.get("LOCAL_RANK", 0)), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    name = (visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())])[local]
    try:
        pynvml.nvmlInit()
        by_index = name.isdigit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(name)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except pynvml.NVMLError:  # an older card, or a part of one
        return None
