"""After an interruption: back into the queue, if it was Slurm's warning and not the user's cancel."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from launchers.slurm.allocation import restarts
from launchers.slurm.commands import show_job, slurm, this_job
from trainer.errors import Interrupted, StageFailed

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

_ENDING = 120  # seconds that Slurm may take to end a job that it has put back into the queue


def after_interruption(settings: SlurmLauncher) -> int:
    """Queue this job again where that is right, say what was done, and return the exit code.

    The code is never 0, so jobs that wait for this one (afterok) go on waiting, or are dropped where it is over.
    """
    job_id = this_job(os.environ)
    try:
        said = _requeue(settings, job_id)
    except StageFailed as error:
        said = f"job {job_id} could not go back into the queue: {error}"
    print(said, flush=True)
    return Interrupted.exit_code


def _requeue(settings: SlurmLauncher, job_id: str) -> str:
    job, done = show_job(job_id), restarts(os.environ)
    if job.state != "RUNNING":  # cancelled, at its time limit, or being preempted, in which case Slurm requeues it
        return f"job {job_id} is {job.state}: what comes next is Slurm's to say, so it is not requeued from here."
    if not job.batch:
        return f"job {job_id} is not a batch job; the same command continues."
    if done >= settings.max_requeues:
        return (
            f"job {job_id} was started again {done} times (launcher.max_requeues) and is not requeued; submit it to continue."
        )
    slurm(["scontrol", "requeue", job_id])
    print(f"job {job_id} goes back into the queue (restart {done + 1} of at most {settings.max_requeues})", flush=True)
    time.sleep(_ENDING)  # Slurm ends this process long before
    return f"job {job_id} was requeued, and Slurm did not end it in {_ENDING} s."
