"""Slurm as the queue of a launcher."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.slurm.allocation import restarts
from launchers.slurm.commands import active_jobs, show_job, slurm
from launchers.slurm.render import render, render_jobs, whole_size
from launchers.slurm.requeue import after_interruption
from launchers.slurm.submit import sbatch, submit_array, submit_run
from trainer.config.bases import Scheduler, Submission
from trainer.config.stage import Stage
from trainer.record import write_private

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

    def state(self, job: str) -> str:
        return show_job(job).state

    def cancel(self, jobs: Sequence[str]) -> None:
        slurm(["scancel", *jobs])

    def requeue(self) -> int:
        return after_interruption(self.settings)

    def follow(self, submission: Submission) -> list[str]:
        jobs = ",".join(submission.job_ids)
        return [
            f"submitted: job {', '.join(submission.job_ids)}",
            f"state:     squeue --jobs={jobs}",
            *(f"log:       tail -F {log}" for log in submission.logs),
            f"stop:      scancel {jobs.replace(',', ' ')}",
        ]
