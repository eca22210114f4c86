"""After an interruption, or where a rank was lost: back into the queue, unless it was the user's cancel."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.jobs import job_after, record, script_of, times_again
from launchers.slurm.allocation import SUCCEEDS, restarts
from launchers.slurm.commands import show_job, slurm, this_job
from launchers.slurm.submit import sbatch
from trainer.errors import Interrupted, KeelError, StageFailed

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

_ENDING = 120  # seconds that Slurm may take to end a job that it has put back into the queue


def queue_again(settings: SlurmLauncher, run_dir: Path, why: KeelError) -> int:
    """Queue this job again where that is right, say what was done, and return the exit code: that of `why`, or where the job
    goes on, of an interruption.

    It is never 0, so jobs that wait for this one (afterok) go on waiting, or are dropped where it is over.
    """
    job_id = this_job(os.environ)
    try:
        job, done = show_job(job_id), times_again(run_dir, job_id)
        if job.state != "RUNNING":  # cancelled, at its time limit, or being preempted, in which case Slurm requeues it
            said = f"job {job_id} is {job.state}: what comes next is Slurm's to say, so it is not requeued from here."
        elif not job.batch:
            said = f"job {job_id} is not a batch job; the same command continues."
        elif done >= settings.max_requeues:
            said = (
                f"job {job_id} was put back into the queue {done} times (launcher.max_requeues) and is not requeued; submit it "
                "to continue."
            )
        else:
            count = f"restart {done + 1} of at most {settings.max_requeues}"
            return _requeued(run_dir, job_id, count) if job.requeue else _succeeded(settings, run_dir, job_id, count, why)
    except StageFailed as error:
        said = f"job {job_id} could not go back into the queue: {error}"
    print(said, flush=True)
    return why.exit_code


def _requeued(run_dir: Path, job_id: str, count: str) -> int:
    record(run_dir, [job_id], [], again=job_id)
    slurm(["scontrol", "requeue", job_id])
    print(f"job {job_id} goes back into the queue ({count})", flush=True)
    time.sleep(_ENDING)  # Slurm ends this process long before
    print(f"job {job_id} was requeued, and Slurm did not end it in {_ENDING} s.", flush=True)
    return Interrupted.exit_code


def _succeeded(settings: SlurmLauncher, run_dir: Path, job_id: str, count: str, why: KeelError) -> int:
    """Slurm may not requeue this job, so another one with its script continues when it has ended."""
    script = script_of(run_dir, job_id)
    if script is None or not script.exists():
        print(f"job {job_id} may not be requeued here, and its script is not known: submit it again to continue.", flush=True)
        return why.exit_code
    index = job_id.partition("_")[2]  # of an array's element
    element = [f"--array={index}"] if index else []
    before = {SUCCEEDS: str(restarts(os.environ) + 1)}
    new = sbatch(settings, script, f"--dependency=afterany:{job_id}", *element, more=before, after=job_id)
    new = f"{new}_{index}" if index else new
    waiting = job_after(run_dir, job_id)
    record(run_dir, [new], [script], again=job_id)
    if waiting:
        slurm(["scontrol", "update", f"JobId={waiting}", f"Dependency=afterok:{new}"])
    print(f"job {job_id} may not be requeued here: job {new} continues when it has ended ({count})", flush=True)
    return Interrupted.exit_code
