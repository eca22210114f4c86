"""The submissions of a run, written down beside it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from trainer.config.bases import Scheduler
from trainer.errors import ConfigError

JOBS = "jobs.jsonl"  # in the run directory: every submission of the run


def recorded_jobs(run_dir: Path) -> list[str]:
    """The ids of all jobs that were ever submitted for a run."""
    path = run_dir / JOBS
    lines = path.read_text().splitlines() if path.exists() else []
    return [job for line in lines for job in json.loads(line)["jobs"]]


def refuse_twice(scheduler: Scheduler, run_dir: Path) -> None:
    """Raises ConfigError where a job of this run is still pending or running."""
    recorded = recorded_jobs(run_dir)
    active = scheduler.active() if recorded else {}
    for job in recorded:
        if job in active:
            raise ConfigError(
                f"run.name: job {job} of this run is {active[job].lower()}; two jobs in one run directory would "
                f"overwrite each other. Wait for it, cancel it, or choose another run.name."
            )


def record(run_dir: Path, jobs: list[str], scripts: list[Path]) -> None:
    """One line per submission."""
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "jobs": jobs, "scripts": [str(s) for s in scripts]}
    with (run_dir / JOBS).open("a") as file:
        file.write(json.dumps(entry) + "\n")
