"""The submissions of a run, written down beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.record import this_user

JOBS = "jobs.jsonl"  # in the run directory: every submission of the run


@dataclass(frozen=True)
class Submitted:
    """A job of a run. Attribute user: who submitted it; None in a file of an older version."""

    job: str
    user: str | None


def submitted(run_dir: Path) -> list[Submitted]:
    """All jobs that were ever submitted for a run, as far as that was written down: a line that was cut short says nothing."""
    return list(dict.fromkeys(Submitted(job, entry.get("user")) for entry in _entries(run_dir) for job in entry["jobs"]))


def _entries(run_dir: Path) -> list[dict[str, Any]]:
    path, found = run_dir / JOBS, []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            found.append({**entry, "jobs": [str(job) for job in entry["jobs"]], "scripts": list(entry.get("scripts", []))})
    return found


def recorded_jobs(run_dir: Path) -> list[str]:
    """Their ids."""
    return [one.job for one in submitted(run_dir)]


def script_of(run_dir: Path, job: str) -> Path | None:
    """The script that a job was submitted with; None where that is not written down."""
    for entry in reversed(_entries(run_dir)):
        if job in entry["jobs"] and len(entry["scripts"]) == len(entry["jobs"]):
            return Path(entry["scripts"][entry["jobs"].index(job)])
    return None


def job_after(run_dir: Path, job: str) -> str | None:
    """The job of the same submission that waits for this one, or for the one that it succeeds; None where there is none."""
    for entry in reversed(_entries(run_dir)):
        if job in entry["jobs"][:-1]:
            return str(entry["jobs"][entry["jobs"].index(job) + 1])
        if job in entry["jobs"] and "again" in entry:
            job = entry["again"]
    return None


def times_again(run_dir: Path, job: str) -> int:
    """How often a job was put back into the queue from here, as itself or as the successor of another."""
    count = 0
    for entry in reversed(_entries(run_dir)):
        if "again" in entry and job in entry["jobs"]:
            count, job = count + 1, entry["again"]
    return count


def record(run_dir: Path, jobs: Sequence[str], scripts: Sequence[Path], again: str | None = None) -> None:
    """One line per submission.

    Args:
        again: the job that is put back into the queue by it.
    """
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "user": this_user(),
        "jobs": list(jobs),
        "scripts": [str(script) for script in scripts],
        **({} if again is None else {"again": again}),
    }
    with (run_dir / JOBS).open("ab") as file:
        torn = file.tell() > 0 and not (run_dir / JOBS).read_bytes().endswith(b"\n")
        file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")
