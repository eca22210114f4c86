"""A stage's own copy of its dataset. The trainers cache beside it what they make of it: tokens, and a reference's
log-probabilities. Those belong to this stage, and go with it when it is redone; those that a start finds are vouched for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from datasets import load_from_disk

from trainer.errors import DataError
from trainer.models.local_copy import local_copy
from trainer.pipeline.context import StageContext
from trainer.record import hash_files, write_json

EXAMPLES, VALIDATION = "examples", "validation"


def validation_dir(examples: Path) -> Path:
    """Beside the dataset of a trainer: those of the rows that are held out, one for each part of a mixture."""
    return examples.with_name(f"{examples.name}_{VALIDATION}")


def load_validation(context: StageContext, examples: Path, scratch: str | None = None) -> dict[str, Any] | None:
    """Part of a mixture -> the dataset of its rows that are held out; None where no row is. Otherwise as `load_examples`."""
    parts = context.training.validation
    at = validation_dir(examples)
    return {part: load_examples(context, at / part, scratch, f"{VALIDATION}/{part}") for part in parts} or None


def load_examples(context: StageContext, path: Path, scratch: str | None = None, name: str = EXAMPLES) -> Any:
    """The dataset at `path`, from disk: every rank maps the same file.

    Args:
        scratch: a node-local directory to read it from; it is copied there first.
        name: what the stage calls its copy.

    Raises:
        DataError: it cannot be read.
    """
    own = context.stage_dir / name
    context.together(lambda: _copy(path, own))
    try:
        return load_from_disk(local_copy(str(own), scratch) if scratch else str(own))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the data stage's output cannot be read: {error}") from error


def vouch_for_examples(context: StageContext) -> None:
    """Note what is cached now, for the next start. Called by all ranks, once their trainers are made."""
    context.barrier()
    copies = [context.stage_dir / EXAMPLES, *(context.stage_dir / VALIDATION).glob("*")]
    for own in copies if context.is_main else ():
        if own.is_dir():
            write_json(_notes(own), _found(own))


def _notes(own: Path) -> Path:
    """File of a dataset -> its SHA-256."""
    return own.with_name(f"{own.name}.json")


def _copy(path: Path, own: Path) -> None:
    """Keep what is there if it is what was noted, less what is not in the notes; or else begin again."""
    notes = _notes(own)
    noted = json.loads(notes.read_text()) if notes.exists() else {}
    found = _found(own) if own.exists() else {}
    if noted and noted.items() <= found.items():
        for name in found.keys() - noted.keys():
            (own / name).unlink()
        return
    shutil.rmtree(own, ignore_errors=True)
    try:
        shutil.copytree(path, own)
    except OSError as error:
        raise DataError(f"{path}: the data stage's output cannot be copied: {error}") from error


def _found(directory: Path) -> dict[str, str]:
    files = sorted(p for p in directory.iterdir() if p.is_file())
    return dict(zip((p.name for p in files), hash_files(files), strict=True))
