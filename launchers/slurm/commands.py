"""Slurm's own commands, and what they say about a job."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from trainer.errors import StageFailed

_SECONDS = 60  # a busy controller answers late; one that does not answer at all should not hold us for ever
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # which cluster; everything else describes some other job


_OVER = {
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
    "REVOKED", "LAUNCH_FAILED",
}  # fmt: skip


class NoAnswer(StageFailed):
    """The controller did not answer in time; what it was asked for may have been done."""


@dataclass(frozen=True)
class Job:
    """What `scontrol show job JOB` says.

    Attributes:
        state: RUNNING, PENDING, COMPLETING, CANCELLED, ...
        batch: whether it has a batch script that Slurm could start again.
        ends: when its time limit ends it; None without a limit.
        began: when it started; None where it has not.
        requeue: whether Slurm may put it back into the queue.
    """

    state: str
    batch: bool
    ends: datetime | None
    began: datetime | None = None
    requeue: bool = True


def slurm(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """The output of a Slurm command.

    Raises:
        StageFailed: it is not installed here, did not answer, or refused; the text has its own message.
    """
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True, env=environment
        )
    except FileNotFoundError:
        raise StageFailed(
            f"{arguments[0]} is not on PATH: there is no Slurm here. Run this on a node of the cluster, or set launcher=local."
        ) from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{arguments[0]} got no answer in {_SECONDS} s; is the controller up? Try: scontrol ping") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or f"exit code {error.returncode}, without a message"
        raise StageFailed(f"{arguments[0]} refused: {said}") from None
    return done.stdout.strip()


def outside_environment() -> dict[str, str]:
    """This environment without what belongs to another job: SLURM_*, and SBATCH_*, which would overrule the script."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_", "SALLOC_")) or k in _KEPT}


def this_job(environment: Mapping[str, str]) -> str:
    """The id of the job around this process. An element of an array by its index: the plain id of one means all of them."""
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def show_job(job_id: str) -> Job:
    """What Slurm knows about a job.

    Raises:
        StageFailed: Slurm does not answer, or no longer knows the job.
    """
    line = slurm(["scontrol", "show", "job", job_id, "-o"]).splitlines()[0]
    fields = dict(re.findall(r"(?:^| )(\w+)=(\S*)", line))
    return Job(
        state=fields.get("JobState", "UNKNOWN"),
        batch=fields.get("BatchFlag", "0") != "0",
        ends=_time_in(fields, "EndTime"),
        began=_time_in(fields, "StartTime"),
        requeue=fields.get("Requeue", "1") != "0",
    )


def _time_in(fields: Mapping[str, str], name: str) -> datetime | None:
    try:
        return datetime.strptime(fields.get(name, ""), "%Y-%m-%dT%H:%M:%S")
    except ValueError:  # Unknown, or no limit
        return None


def time_limit(partition: str | None) -> str | None:
    """The longest that a job may ask for in a partition, as Slurm writes times; None is without limit. No partition is the
    default one.

    Raises:
        StageFailed: Slurm does not answer, or has no such partition.
    """
    for line in slurm(["scontrol", "show", "partition", *([partition] if partition else []), "-o"]).splitlines():
        fields = dict(re.findall(r"(?:^| )(\w+)=(\S*)", line))
        if partition is not None or fields.get("Default") == "YES":
            limit = fields.get("MaxTime", "UNLIMITED")
            return None if limit in ("UNLIMITED", "INFINITE") else limit
    return None


def longest_array() -> int | None:
    """How many elements a job array may have; None where Slurm does not say."""
    with suppress(StageFailed):
        if found := re.search(r"^MaxArraySize\s*=\s*(\d+)", slurm(["scontrol", "show", "config"]), re.MULTILINE):
            return int(found.group(1)) or None
    return None


@dataclass(frozen=True)
class Queued:
    """A job in the queue. Attributes: state; script: the file that was submitted, as the controller shows it."""

    state: str
    script: str


def queued_jobs() -> dict[str, Queued]:
    """This user's jobs that are pending or running, by id. Elements of an array each on their own: `12_3`.

    Raises:
        StageFailed: Slurm does not answer.
    """
    lines = slurm(["squeue", "--me", "--noheader", "--array", "--format=%i %T %o"]).splitlines()
    parts = (line.split(maxsplit=2) for line in lines)
    return {job: Queued(state, "".join(script)) for job, state, *script in parts}


def active_jobs() -> dict[str, str]:
    """This user's jobs that are pending or running: id -> state. Raises: as `queued_jobs`."""
    return {job: queued.state for job, queued in queued_jobs().items()}


def is_over(job: str) -> bool | None:
    """Whether a job of any user has ended for good; None where Slurm does not answer. One that it forgot has."""
    try:
        return show_job(job).state in _OVER
    except NoAnswer:
        return None
    except StageFailed as error:
        return True if "Invalid job id" in str(error) else None
