"""Slurm as the queue of a launcher."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.jobs import record, recorded_jobs, submitted
from launchers.slurm.allocation import restarts
from launchers.slurm.commands import active_jobs, is_over, queued_jobs, show_job, slurm, this_job
from launchers.slurm.render import render, render_jobs, whole_size
from launchers.slurm.requeue import queue_again
from launchers.slurm.submit import sbatch, submit_array, submit_run
from trainer.config.bases import Scheduler, Submission
from trainer.config.stage import Stage
from trainer.errors import KeelError
from trainer.record import this_user, write_private

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher
    from trainer.config.run import RunConfig

_CHECK_TIME, _CHECK_LEAD = "00:10:00", 30  # a short job's limit, and its signal so many seconds before


class SlurmScheduler(Scheduler):
    """The Slurm whose commands are on PATH."""

    def __init__(self, settings: SlurmLauncher):
        self.settings = settings

    def inside(self) -> bool:
        return "SLURM_JOB_ID" in os.environ  # a batch script, or a shell that salloc gave

    def here(self) -> str | None:
        return this_job(os.environ) if self.inside() else None

    def restarted(self) -> int:
        return restarts(os.environ)

    def element(self) -> int:
        return int(os.environ["SLURM_ARRAY_TASK_ID"])

    def script(self, config: RunConfig, run_dir: Path, stages: Sequence[Stage]) -> dict[str, str]:
        return render_jobs(self.settings, config.run.name, run_dir, stages)

    def submit(self, config: RunConfig, run_dir: Path, stages: Sequence[Stage]) -> Submission:
        return submit_run(self.settings, config.run.name, run_dir, stages)

    def submit_array(self, config: RunConfig, run_dirs: Sequence[Path], sweep_dir: Path) -> Submission:
        return submit_array(self.settings, run_dirs, sweep_dir)

    def submit_check(self, name: str, run_dir: Path, arguments: Sequence[str]) -> Submission:
        section: Any = self.settings  # mypy does not know pydantic's dataclasses for dataclasses
        short = replace(section, time=_CHECK_TIME, signal_lead=_CHECK_LEAD)
        script = run_dir / "job.sbatch"
        write_private(script, render(short, name, whole_size(short), run_dir / "slurm-%j.log", arguments))
        job = sbatch(short, script)
        return Submission([job], [script], [str(run_dir / f"slurm-{job}.log")])

    def active(self) -> dict[str, str]:
        return active_jobs()

    def jobs_of(self, run_dir: Path) -> dict[str, str]:
        known, place = submitted(run_dir), str(run_dir.absolute())
        if not known and not any(run_dir.glob("job*.sbatch")):  # nor one that sbatch did not tell of
            return {}
        names, queued = {one.job for one in known}, queued_jobs()
        found = {job: one.state for job, one in queued.items() if job in names or os.path.dirname(one.script) == place}
        others = (one.job for one in known if one.user not in (None, this_user()))
        return found | {job: self.state(job) for job in others if is_over(job) is False}

    def note(self, run_dir: Path) -> None:
        job = self.here()
        if job is not None and job not in recorded_jobs(run_dir):
            record(run_dir, [job], [])

    def over(self, job: str) -> bool | None:
        return is_over(job)

    def state(self, job: str) -> str:
        return show_job(job).state

    def cancel(self, jobs: Sequence[str]) -> None:
        slurm(["scancel", *jobs])

    def requeue(self, run_dir: Path, why: KeelError) -> int:
        return queue_again(self.settings, run_dir, why)

    def follow(self, submission: Submission) -> list[str]:
        jobs = ",".join(submission.job_ids)
        return [
            f"submitted: job {', '.join(submission.job_ids)}",
            f"state:     squeue --jobs={jobs}",
            *(f"log:       tail -F {log}" for log in submission.logs),
            f"stop:      scancel {jobs.replace(',', ' ')}",
        ]
