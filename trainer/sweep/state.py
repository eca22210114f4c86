"""What has become of the runs of a sweep by now, read from their directories and from the queue; nothing is changed."""

from __future__ import annotations

from pathlib import Path

from trainer.config.bases import Scheduler
from trainer.config.load import read_config
from trainer.config.run import RunConfig
from trainer.errors import StageFailed
from trainer.pipeline.chain import chain
from trainer.pipeline.manifest import MANIFEST
from trainer.pipeline.run import CONFIG
from trainer.sweep.journal import Entry, Journal
from trainer.sweep.table import Row


def present_rows(journal: Journal) -> list[Row]:
    """One row per point of the journal."""
    entries = list(journal.entries().values())
    configs = {e.run_dir: read_config(path) for e in entries if (path := Path(e.run_dir) / CONFIG).exists()}
    schedulers = (config.launcher.scheduler for config in configs.values())
    scheduler = next((found for found in schedulers if found is not None), None)
    active = _active_jobs(scheduler) if scheduler is not None and any(entry.job for entry in entries) else {}
    return [Row(e.point, _state(e, configs.get(e.run_dir), active), Path(e.run_dir), e.job) for e in entries]


def _active_jobs(scheduler: Scheduler) -> dict[str, str]:
    try:
        return scheduler.active()
    except StageFailed as error:
        print(f"the queue is not known here: {error}", flush=True)
        return {}


def _state(entry: Entry, config: RunConfig | None, active: dict[str, str]) -> str:
    if entry.job in active:
        return active[entry.job].lower()
    if config is None:
        return "missing"
    # Manifests alone: fingerprints would depend on the directory that this is called from.
    if all((Path(entry.run_dir) / stage.name / MANIFEST).exists() for stage in chain(config)):
        return "done"
    scheduler = config.launcher.scheduler
    return entry.state if entry.job is None or scheduler is None else _how_it_ended(scheduler, entry.job)


def _how_it_ended(scheduler: Scheduler, job: str) -> str:
    """What a scheduler remembers, for some minutes, of a job that is over: cancelled, timeout, node_fail, ..."""
    try:
        state = scheduler.state(job).lower()
    except StageFailed:
        return "failed"
    return "failed" if state == "completed" else state
