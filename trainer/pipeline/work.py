"""What a stage is started with: the fingerprints of all that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.config.paths import looks_local
from trainer.config.run import DATASETS
from trainer.config.stage import Stage
from trainer.errors import DataError
from trainer.pipeline.hub import commit_of, why_absent
from trainer.record import fingerprint_path

TICKET = "ticket.json"  # the fingerprints a stage was started with; its manifest repeats them when it has finished


def inputs_of(stage: Stage, produced: dict[str, str]) -> dict[str, str]:
    """Fingerprints of everything a stage reads: content, or the commit of what is on the hub.

    Args:
        produced: the fingerprints of what the stages before it left.

    Raises:
        DataError: a path that is there cannot be read.
    """
    found = {name: produced[name] for name in stage.after}
    for key, name in stage.reads.items():
        found[key] = _outside(key, name)
    return found


def absent_problems(stages: Sequence[Stage]) -> list[str]:
    """What the stages read from the hub and will not find, each as `key: what; do this`."""
    reads = {key: name for stage in stages for key, name in stage.reads.items() if not looks_local(name.partition("@")[0])}
    found = {key: why_absent(name, _kind(key)) for key, name in reads.items()}
    return [f"{key}: {reads[key]}: {why}" for key, why in found.items() if why is not None]


def _kind(key: str) -> str:
    return "dataset" if key.startswith(DATASETS) else "model"


def _outside(key: str, name: str) -> str:
    try:
        if Path(name).exists():
            return fingerprint_path(Path(name))
    except OSError as error:
        raise DataError(f"{key}: {name} cannot be read: {error}; make it readable, or give another.") from error
    commit = commit_of(name, _kind(key))
    return name if commit is None else f"{name}@{commit}"
