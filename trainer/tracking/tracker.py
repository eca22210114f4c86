"""One W&B run per stage, grouped by sweep or by run, and `metrics.jsonl` with the same numbers. Rank 0 only.

Tracking is never a reason for a run to fail: W&B may be lost at any moment, and the file may be late where the disk is full.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from trainer.config.run import RunConfig, to_mapping
from trainer.errors import Interrupted
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import METRICS_FILE, STEP
from trainer.record import git_commit, write_json
from trainer.stopping import Terminated
from trainer.tracking.remote import Remote

WANDB_ID = "wandb_id"
LOST = "wandb_lost"  # in a stage directory: why W&B lacks some of its metrics

SUMMARY = "wandb_summary.json"  # in a stage directory: what W&B's summary should hold

Outcome = Literal["finished", "preempted", "failed"]
_PATIENCE = {"finished": 120.0, "preempted": 15.0, "failed": 15.0}  # seconds for W&B's last words; a scheduler may be waiting


def stable_id(stage_dir: Path) -> str:
    """The W&B id of a stage: made once, kept in its directory, the same after every restart."""
    path = stage_dir / WANDB_ID
    if not (path.exists() and path.read_text().strip()):  # empty where the disk was full
        path.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()


def read_summary(stage_dir: Path) -> dict[str, Any]:
    """Empty where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((stage_dir / SUMMARY).read_text())
    except (OSError, ValueError):
        return {}
    return found


class Tracker:
    """Use `Tracker.open(context)`; on ranks other than 0 everything is a no-op."""

    def __init__(self, stage_dir: Path | None, remote: Remote | None):
        self._stage_dir = stage_dir
        self._remote = remote
        self._unwritten: list[str] = []

    @classmethod
    def open(cls, context: StageContext) -> Tracker:
        if not context.is_main:
            return cls(None, None)
        if context.config.tracking.mode == "disabled":
            return cls(context.stage_dir, None)
        try:
            identity = stable_id(context.stage_dir)
        except OSError as error:
            print(f"tracking: {context.stage_dir}: {error.strerror}; W&B is left out", file=sys.stderr, flush=True)
            return cls(context.stage_dir, None)
        return cls(context.stage_dir, Remote(lambda: _begin(context, identity)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._stage_dir is None:
            return
        self._write(json.dumps({"step": step, **values}) + "\n")
        row = {**values, STEP: step}
        self._do(lambda run: run.log(row, step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        row = dict(values)
        if self._stage_dir is not None:
            with suppress(OSError):  # what is in it stands in the stage's results too
                write_json(self._stage_dir / SUMMARY, read_summary(self._stage_dir) | row)
        self._do(lambda run: run.summary.update(row))

    def file(self, path: Path) -> None:
        """A file of the stage, under its own name."""
        self._do(lambda run: run.save(str(path), base_path=str(path.parent), policy="now"))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        def log(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

        self._do(log)

    def image(self, name: str, path: Path) -> None:
        def log(run: Any) -> None:
            import wandb

            run.log({name: wandb.Image(str(path))})

        self._do(log)

    def close(self, outcome: Outcome) -> None:
        """Tell W&B how the stage ended. What comes after is not tracked."""
        self._write("")
        if self._unwritten:
            print(f"tracking: {len(self._unwritten)} lines of {METRICS_FILE} could not be written", file=sys.stderr, flush=True)
        remote, self._remote = self._remote, None
        if remote is None:
            return

        def finish(run: Any) -> None:
            if outcome == "preempted":
                run.mark_preempting()
            run.finish(exit_code=0 if outcome == "finished" else 1)

        remote.close(finish, _PATIENCE[outcome])
        if remote.lost is not None and self._stage_dir is not None:
            with suppress(OSError):
                (self._stage_dir / LOST).write_text(remote.lost)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stopped = kind is not None and issubclass(kind, (Interrupted, Terminated))
        self.close("finished" if kind is None else "preempted" if stopped else "failed")

    def _do(self, step: Any) -> None:
        if self._remote is not None:
            self._remote.do(step)

    def _write(self, line: str) -> None:
        """Append to the file; what does not fit now is tried again with the next line."""
        if self._stage_dir is None:
            return
        self._unwritten += [line] if line else []
        if not self._unwritten:
            return
        path, first = self._stage_dir / METRICS_FILE, len(self._unwritten) == 1
        try:
            _append(path, "".join(self._unwritten))
            self._unwritten = []
        except OSError as error:
            if first:
                print(f"tracking: {path}: {error.strerror}; it is tried again later", file=sys.stderr, flush=True)


def _append(path: Path, text: str) -> None:
    """All of it or nothing."""
    with path.open("ab") as file:
        before = file.tell()
        try:
            file.write(text.encode())
            file.flush()
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)
            raise


def _begin(context: StageContext, identity: str) -> Any:
    mode = context.config.tracking.mode
    return begin(context.config, context.run_dir, context.stage.name, identity, mode, resume=mode == "online")


def begin(config: RunConfig, run_dir: Path, stage: str, identity: str, mode: str, resume: bool) -> Any:
    """The W&B run of a stage."""
    import wandb

    tracking = config.tracking
    _give_a_home(run_dir)
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]  # W&B's own words
        dir=str(run_dir),
        project=tracking.project,
        entity=tracking.entity,
        tags=[config.method.name, *([Path(config.model.path).name] if config.model.path else []), *tracking.tags],
        group=tracking.group or config.run.name.rpartition("/")[0] or config.run.name,
        job_type=stage,
        name=f"{config.run.name}/{stage}",
        id=identity,
        resume="allow" if resume else None,
        config=to_mapping(config),
        settings=wandb.Settings(
            silent=True, console="off", save_code=False, disable_git=True, git_commit=git_commit().partition("+")[0]
        ),
    )
    run.define_metric("*", step_metric=STEP)
    return run


def _give_a_home(run_dir: Path) -> None:
    """Where the user has no home to write in, as on some nodes, W&B's own files go beside the run."""
    home = Path(os.path.expanduser("~"))
    if not (home.is_absolute() and os.access(home, os.W_OK | os.X_OK)):
        for kind in ("CONFIG", "CACHE", "DATA"):
            os.environ.setdefault(f"WANDB_{kind}_DIR", str(run_dir.absolute() / "wandb" / kind.lower()))
