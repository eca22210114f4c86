"""What a run writes, and whether the file system of the run directory holds it."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import SAVE_STEPS, checkpoints_kept, stage_fields
from trainer.plan.memory import Layout
from trainer.plan.shape import Shape

WRITE_RATE = 1 << 30  # bytes per second that all ranks together write: assumed


@dataclass(frozen=True)
class Disk:
    """checkpoint: bytes of one. keep: how many stay; while the next is written there is one more. model: the result."""

    checkpoint: float
    keep: int
    model: float

    @property
    def total(self) -> float:
        return self.checkpoint * (self.keep + 1) + self.model

    @property
    def save_seconds(self) -> float:
        return self.checkpoint / WRITE_RATE


def disk_of(config: RunConfig, training: Training, shape: Shape, layout: Layout, steps: int | None) -> Disk:
    """A checkpoint holds the optimiser (with its master copy), DeepSpeed's weights (stage 3 leaves them to the master copy),
    and the weights once more for transformers; of a LoRA run only what belongs to the adapter.

    Args:
        steps: of the stage; None where that is not known.
    """
    b, trained = layout.stored_bytes, shape.trainable
    states = layout.optimizer.states * layout.optimizer.state_bytes
    if layout.zero is None:
        checkpoint = (b + layout.optimizer.states * min(layout.optimizer.state_bytes, b)) * trained
    elif layout.zero == 0:
        checkpoint = (2 * b + states) * trained
    elif layout.zero == 3:
        zero = (config.deepspeed or {}).get("zero_optimization") or {}
        whole = b if zero.get("stage3_gather_16bit_weights_on_model_save") else 0
        checkpoint = (whole + 4 + states) * trained
    else:
        checkpoint = (2 * b + 4 + states) * trained
    saved = 2 if (config.model.save_dtype or config.model.dtype) == "bfloat16" else 4
    return Disk(float(checkpoint), _kept(config, training, steps), float(saved * shape.parameters))


def _kept(config: RunConfig, training: Training, steps: int | None) -> int:
    """Checkpoints that stay; where all do, those of every `save_steps`, and of an unknown number of steps the newest alone."""
    if (limit := checkpoints_kept(config, training)) is not None:
        return limit
    every = stage_fields(config, training).get("save_steps", SAVE_STEPS)
    return 1 if steps is None else math.ceil(steps / every if every >= 1 else 1 / every)


def free_space(run_dir: Path) -> tuple[Path, int]:
    """The nearest directory that exists already, and the bytes free there."""
    nearest = next(p for p in (run_dir.absolute(), *run_dir.absolute().parents) if p.exists())
    return nearest, shutil.disk_usage(nearest).free
