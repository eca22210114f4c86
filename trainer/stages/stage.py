"""One link of a run's chain: what it does, and everything it depends on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.stages.context import StageContext
from trainer.stages.manifest import fingerprint_path, write_manifest

TICKET = "ticket.json"  # the fingerprints a stage was started with; its manifest repeats them when it has finished


@dataclass(frozen=True)
class Stage:
    """One link of the chain.

    Attributes:
        name: also the stage's directory in the run directory.
        work: does it, on every rank; returns the files to vouch for (on rank 0).
        after: the stages whose artifacts it reads.
        settings: the part of the config it depends on; a change elsewhere does not redo it.
        reads: config key -> path of what it reads from outside the run; its content counts.
        distributed: whether it runs on all processes or on one.
        trains: whether it leaves checkpoints and resumes from them.
    """

    name: str
    work: Callable[[StageContext], list[Path]]
    after: tuple[str, ...]
    settings: dict[str, Any]
    reads: dict[str, str]
    distributed: bool = True
    trains: bool = False

    def inputs(self, finished: dict[str, str]) -> dict[str, str]:
        """Fingerprints of everything it reads. `finished`: the fingerprints of the stages before it."""
        found = {name: finished[name] for name in self.after}
        for key, path in self.reads.items():
            found[key] = fingerprint_path(Path(path)) if Path(path).exists() else path
        return found

    def run(self, context: StageContext) -> None:
        """Do the work and, when all ranks have, write the manifest."""
        started = time.monotonic()
        outputs = self.work(context)
        context.barrier()
        if context.is_main:
            ticket = json.loads((context.stage_dir / TICKET).read_text())
            write_manifest(
                context.stage_dir,
                fingerprint=ticket["fingerprint"],
                inputs=ticket["inputs"],
                config=self.settings,
                seed=context.config.seed,
                world_size=context.world_size,
                seconds=time.monotonic() - started,
                outputs=outputs,
            )
