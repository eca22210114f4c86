"""What a finished stage writes down: enough to know where it came from, and whether it still holds."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ArtifactError
from trainer.pipeline.cost import Cost
from trainer.record import fingerprint_of, git_commit, hash_files, versions, write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """fingerprint: hash of config part, seed and inputs. inputs: fingerprints of what the stage read, left by the stages before
    it or from outside the run. outputs: file -> sha256, relative to the stage directory. cost: `Cost` as a dict, of all ranks
    and starts; None where none was taken."""

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    config: dict[str, Any]
    seed: int
    world_size: int
    seconds: float
    finished: str
    git_commit: str
    versions: dict[str, str]
    host: str
    outputs: dict[str, str]
    cost: dict[str, Any] | None = None

    @property
    def produced(self) -> str:
        """The fingerprint of the outputs: what a later stage that reads them depends on, however they came about."""
        return fingerprint_of(self.outputs)


def write_manifest(
    stage_dir: Path, *, fingerprint: str, inputs: dict[str, str], config: dict[str, Any], seed: int,
    world_size: int, seconds: float, outputs: Iterable[Path], cost: Cost | None = None,
) -> Manifest:  # fmt: skip
    paths = list(outputs)
    manifest = Manifest(
        stage=stage_dir.name,
        fingerprint=fingerprint,
        inputs=inputs,
        config=config,
        seed=seed,
        world_size=world_size,
        seconds=round(seconds, 1),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        git_commit=git_commit(),
        versions=versions(),
        host=platform.node(),
        outputs=dict(zip((str(p.relative_to(stage_dir)) for p in paths), hash_files(paths), strict=True)),
        cost=None if cost is None else asdict(cost),
    )
    write_json(stage_dir / MANIFEST, asdict(manifest))
    return manifest


def read_manifest(stage_dir: Path) -> Manifest | None:
    """None where the stage has not finished.

    Raises:
        ArtifactError: a manifest is there and cannot be read.
    """
    path = stage_dir / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete {stage_dir} to redo the stage.") from error


def damaged_outputs(stage_dir: Path, manifest: Manifest) -> list[str]:
    """Outputs that are missing or no longer what the stage wrote."""
    present = [name for name in manifest.outputs if (stage_dir / name).is_file()]
    found = dict(zip(present, hash_files(stage_dir / name for name in present), strict=True))
    return [name for name, digest in manifest.outputs.items() if found.get(name) != digest]
