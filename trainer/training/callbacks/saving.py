"""Turns what Trainer writes into complete checkpoints: space is checked before, hashes and the final name come after."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trainer.checkpoints.start import CHECKPOINTS, read_start
from trainer.checkpoints.store import (
    WRITING,
    CheckpointManifest,
    all_checkpoints,
    commit,
    facts_of_all,
    files_in,
    read_manifest,
    remove_all_but,
)
from trainer.config.zero import zero_stage
from trainer.errors import DiskFull, StageFailed
from trainer.pipeline.context import StageContext
from trainer.tracking.tracker import WANDB_ID

GIB = 1 << 30


def writing_directory(context: StageContext, attempt: str) -> Path:
    """Where Trainer puts a checkpoint of this start while it is being written (its `output_dir`)."""
    return context.stage_dir / CHECKPOINTS / f"{WRITING}{attempt}"


class CheckpointsCallback(TrainerCallback):
    """Every rank takes part: files are flushed and hashed by all of them, the name is given by rank 0.

    Args:
        keep: how many checkpoints stay; None is all.
    """

    def __init__(self, context: StageContext, attempt: str, keep: int | None):
        self.context = context
        self.attempt = attempt
        self.keep = keep
        self.directory = context.stage_dir / CHECKPOINTS

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if control.should_save:
            self._make_room(model, state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if control.should_save:
            self._make_room(model, state.global_step)

    def _make_room(self, model: Any, step: int) -> None:
        """Raise before anything is written, on all ranks, when the next checkpoint cannot fit.

        Raises:
            DiskFull: not even after deleting all checkpoints but the newest.
        """

        def check() -> None:
            needed = self._expected_size(model)
            if shutil.disk_usage(self.directory).free < needed:
                remove_all_but(self.directory, 1)
            free = shutil.disk_usage(self.directory).free
            if free < needed:
                newest = next((p.name for p in all_checkpoints(self.directory)), "none yet")
                raise DiskFull(
                    f"stage {self.context.stage.name}: checkpoint-{step} needs about {needed / GIB:.3f} GiB and "
                    f"{self.directory} has {free / GIB:.3f} GiB free; newest complete checkpoint: {newest}. Free some space or "
                    "choose another paths.runs, then start again: it resumes from there."
                )

        self.directory.mkdir(parents=True, exist_ok=True)
        self.context.together(check)

    def _expected_size(self, model: Any) -> int:
        """Bytes: what the last one took, or weights (for resuming, and for transformers), fp32 master copy and two moments."""
        newest = next(iter(all_checkpoints(self.directory)), None)
        manifest = read_manifest(newest) if newest else None
        if manifest is not None:
            return manifest.size
        parameters = [p for p in model.parameters() if p.requires_grad]
        return sum(getattr(p, "ds_numel", p.numel()) * (2 * p.element_size() + 12) for p in parameters)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        context = self.context
        context.barrier()  # every rank has written its part
        written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = files_in(written)
        mine = facts_of_all(written, files[context.rank :: context.world_size])
        parts = context.gather(mine)
        if context.is_main:
            if read_start(context.stage_dir).attempt != self.attempt:
                raise StageFailed(
                    f"stage {context.stage.name}: another start of this run has taken over; this one stops without saving."
                )
            identity = context.stage_dir / WANDB_ID
            manifest = CheckpointManifest(
                step=state.global_step,
                world_size=context.world_size,
                zero_stage=zero_stage(context.config),
                wandb_id=identity.read_text().strip() if identity.exists() else None,
                files={name: facts for part in parts for name, facts in part.items()},
            )
            commit(written, self.directory, manifest)
            if self.keep is not None:
                remove_all_but(self.directory, self.keep)
        context.barrier()  # nobody trains on before the checkpoint counts
