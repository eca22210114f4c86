"""Only whole checkpoints are resumed from: each gets a marker once everything in it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

MARKER = "whole"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def newest_whole_checkpoint(directory: Path) -> Path | None:
    """The checkpoint to resume from; None where there is none."""
    return max((p for p in directory.glob("checkpoint-*") if (p / MARKER).exists()), key=_step, default=None)


class WholeCheckpointsCallback(TrainerCallback):
    def __init__(self, is_main: bool):
        self.is_main = is_main

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.barrier()  # every rank has written its part
        if self.is_main:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / MARKER).touch()
