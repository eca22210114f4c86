"""Where a dataset is that a config names: at a path, in the mirror, or on a hub."""

from __future__ import annotations

from pathlib import Path

from trainer.config.mirror import Place, mirrored
from trainer.config.paths import looks_local


def dataset_place(name: str, base_dir: Path = Path()) -> Place | None:
    """Where it is on this machine, or should be; None for what is on the hub alone."""
    if looks_local(name):
        return Place(base_dir / Path(name).expanduser())
    return mirrored("datasets", name)
