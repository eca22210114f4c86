"""The size of one stage's job."""

from __future__ import annotations

from pydantic import Field

from trainer.config.section import section


@section
class StageSize:
    """A stage that is a Slurm job of its own size; null takes the launcher's value."""

    nodes: int | None = Field(None, gt=0)
    gpus_per_node: int | None = Field(None, ge=0)
    processes_per_node: int | None = Field(None, gt=0)
    time: str | None = None
