"""What a stage is started with: the fingerprints of all that it reads."""

from __future__ import annotations

from pathlib import Path

from trainer.config.stage import Stage
from trainer.record import fingerprint_path

TICKET = "ticket.json"  # the fingerprints a stage was started with; its manifest repeats them when it has finished


def inputs_of(stage: Stage, finished: dict[str, str]) -> dict[str, str]:
    """Fingerprints of everything a stage reads. `finished`: the fingerprints of the stages before it."""
    found = {name: finished[name] for name in stage.after}
    for key, path in stage.reads.items():
        found[key] = fingerprint_path(Path(path)) if Path(path).exists() else path
    return found
