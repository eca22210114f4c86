"""Do one link of a run's chain, on the ranks."""

from __future__ import annotations

import json
import time
from pathlib import Path

from trainer.dotted import resolve
from trainer.pipeline.context import StageContext
from trainer.pipeline.cost import earlier, total
from trainer.pipeline.manifest import write_manifest
from trainer.pipeline.work import TICKET


def do(context: StageContext) -> None:
    """Do the stage's work on this rank and, when all ranks have, write the manifest."""
    started = time.monotonic()
    before = earlier(context.stage_dir)
    with context.meter.kept_if_it_fails(context.stage_dir, context.rank):
        outputs: list[Path] = resolve(context.stage.work)(context)
        taken = context.gather(context.meter.read())
    if context.is_main:
        ticket = json.loads((context.stage_dir / TICKET).read_text())
        write_manifest(
            context.stage_dir,
            fingerprint=ticket["fingerprint"],
            inputs=ticket["inputs"],
            config=context.stage.settings,
            seed=context.config.seed,
            world_size=context.world_size,
            seconds=time.monotonic() - started,
            cost=total([*before, *taken]),
            outputs=outputs,
        )
