"""How one start of a training stage begins: decided once by the process that starts the ranks, read by every rank."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.checkpoints.owner import refuse_foreign
from trainer.checkpoints.store import clear_unfinished, newest_complete, read_manifest
from trainer.checkpoints.universal import UNIVERSAL, to_universal
from trainer.record import write_json

START = "start.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Start:
    """attempt: identifies this start; a start that finds another's in the file has been replaced and must not write.
    checkpoint: what to resume from; None begins at step 0.
    universal: whether that is in DeepSpeed's universal format, made for another world size.
    """

    attempt: str
    checkpoint: str | None = None
    universal: bool = False


def prepare_start(stage_dir: Path, zero_stage: int | None, world_size: int, trusted: Collection[str] = ()) -> Start:
    """Choose the newest complete checkpoint, say so, and convert it where the world size changed.

    Args:
        trusted: users whose checkpoints may be loaded besides those of this user.

    Raises:
        ArtifactError: the checkpoint cannot be brought to this world size, or is not this user's.
    """
    directory = stage_dir / CHECKPOINTS
    lines = clear_unfinished(directory)
    shutil.rmtree(directory / UNIVERSAL, ignore_errors=True)
    checkpoint, passed_over = newest_complete(directory)
    for line in [*lines, *passed_over]:
        print(f"{stage_dir.name}: {line}", flush=True)
    start = Start(uuid.uuid4().hex[:12])
    if checkpoint is not None:
        refuse_foreign(checkpoint, trusted)
        manifest = read_manifest(checkpoint)
        assert manifest is not None  # it is complete
        note = ""
        universal = manifest.zero_stage is not None and manifest.world_size != world_size
        if manifest.world_size != world_size:
            note = f", written by {manifest.world_size} ranks for {world_size} now"
        print(f"{stage_dir.name}: resuming from step {manifest.step} ({checkpoint}{note})", flush=True)
        if universal:
            checkpoint = to_universal(checkpoint, directory / UNIVERSAL, zero_stage)
        start = Start(start.attempt, str(checkpoint), universal)
    write_json(stage_dir / START, asdict(start))
    return start


def read_start(stage_dir: Path) -> Start:
    return Start(**json.loads((stage_dir / START).read_text()))
