"""What has become of the runs of a sweep by now, read from their directories and from Slurm; nothing is changed."""

from __future__ import annotations

from pathlib import Path

from trainer.config.load import read_config
from trainer.errors import StageFailed
from trainer.run import CONFIG
from trainer.stages.chain import chain
from trainer.stages.manifest import MANIFEST
from trainer.sweep.ledger import Entry, Ledger
from trainer.sweep.table import Row


def present_rows(ledger: Ledger) -> list[Row]:
    """One row a point of the ledger."""
    entries = list(ledger.entries().values())
    active = _active_jobs() if any(entry.job for entry in entries) else {}
    return [Row(e.point, _state(e, active), Path(e.run_dir), e.job) for e in entries]


def _active_jobs() -> dict[str, str]:
    from launchers.slurm.commands import active_jobs

    try:
        return active_jobs()
    except StageFailed as error:
        print(f"the queue is not known here: {error}", flush=True)
        return {}


def _state(entry: Entry, active: dict[str, str]) -> str:
    run_dir = Path(entry.run_dir)
    if entry.job in active:
        return active[entry.job].lower()
    if not (run_dir / CONFIG).exists():
        return "missing"
    # Manifests alone: fingerprints would depend on the directory that this is called from.
    if all((run_dir / stage.name / MANIFEST).exists() for stage in chain(read_config(run_dir / CONFIG))):
        return "done"
    return _how_it_ended(entry.job) if entry.job else entry.state


def _how_it_ended(job: str) -> str:
    """What Slurm remembers, for some minutes, of a job that is over: cancelled, timeout, node_fail, ..."""
    from launchers.slurm.commands import show_job

    try:
        state = show_job(job).state.lower()
    except StageFailed:
        return "failed"
    return "failed" if state == "completed" else state
