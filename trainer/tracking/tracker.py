"""One W&B run per stage, grouped by sweep or by run, and `metrics.jsonl` with the same numbers. Rank 0 only."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from trainer.config.run import to_mapping
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import METRICS_FILE, STEP
from trainer.record import git_commit

WANDB_ID = "wandb_id"


def stable_id(stage_dir: Path) -> str:
    """The W&B id of a stage: made once, kept in its directory, the same after every restart."""
    path = stage_dir / WANDB_ID
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()


class Tracker:
    """Use `Tracker.open(context)`; on ranks other than 0 everything is a no-op."""

    def __init__(self, stage_dir: Path | None, run: Any):
        self._metrics = None if stage_dir is None else stage_dir / METRICS_FILE
        self._run = run

    @classmethod
    def open(cls, context: StageContext) -> Tracker:
        if not context.is_main:
            return cls(None, None)
        config, tracking = context.config, context.config.tracking
        run = None
        if tracking.mode != "disabled":
            import wandb

            identity = stable_id(context.stage_dir)
            run = wandb.init(
                mode=tracking.mode,
                dir=str(context.run_dir),
                project=tracking.project,
                entity=tracking.entity,
                tags=[config.method.name, *([Path(config.model.path).name] if config.model.path else []), *tracking.tags],
                group=tracking.group or config.run.name.rpartition("/")[0] or config.run.name,
                job_type=context.stage.name,
                name=f"{config.run.name}/{context.stage.name}",
                id=identity,
                resume="allow" if tracking.mode == "online" else None,
                config=to_mapping(config),
                settings=wandb.Settings(
                    silent=True, console="off", save_code=False, disable_git=True, git_commit=git_commit().partition("+")[0]
                ),
            )
            run.define_metric("*", step_metric=STEP)
        return cls(context.stage_dir, run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._metrics is None:
            return
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._run is not None:
            self._run.log({**values, STEP: step}, step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.summary.update(dict(values))

    def file(self, path: Path) -> None:
        """A file of the stage, under its own name."""
        if self._run is not None:
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._run is not None:
            import wandb

            self._run.log({name: wandb.Table(columns=list(columns), data=[list(r) for r in rows])})

    def image(self, name: str, path: Path) -> None:
        if self._run is not None:
            import wandb

            self._run.log({name: wandb.Image(str(path))})

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)
