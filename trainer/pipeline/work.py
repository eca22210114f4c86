"""What a stage is started with: the fingerprints of all that it reads."""

from __future__ import annotations

from pathlib import Path

from trainer.config.run import DATASETS
from trainer.config.stage import Stage
from trainer.errors import DataError
from trainer.pipeline.hub import commit_of
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


def _outside(key: str, name: str) -> str:
    try:
        if Path(name).exists():
            return fingerprint_path(Path(name))
    except OSError as error:
        raise DataError(f"{key}: {name} cannot be read: {error}; make it readable, or give another.") from error
    commit = commit_of(name, "dataset" if key.startswith(DATASETS) else "model")
    return name if commit is None else f"{name}@{commit}"
