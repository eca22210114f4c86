"""The examination as a job of its own, through the script that a real run would get, waited for."""

from __future__ import annotations

import time
from pathlib import Path

from trainer.config.bases import Scheduler
from trainer.doctor.checks import Finding
from trainer.doctor.checkup import FINDINGS, read_findings
from trainer.errors import StageFailed

_QUEUE = 1800.0  # seconds to wait for the job to start
_POLL = 2.0
_SHARED = 10.0  # seconds for a file of a finished job to show on this node


def examine_in_job(scheduler: Scheduler, run_dir: Path) -> list[Finding]:
    """Submit, wait, and read what the job found. The job is cancelled however this ends early, Ctrl-C included.

    Raises:
        StageFailed: the scheduler refused, or did not start the job in time.
    """
    submission = scheduler.submit_check("keel-doctor", run_dir, ["-m", "trainer.doctor.job", str(run_dir.absolute())])
    (job,) = submission.job_ids
    try:
        _wait(scheduler, job, run_dir / FINDINGS)
    except BaseException:
        scheduler.cancel([job])
        raise
    if not (run_dir / FINDINGS).exists():
        return [Finding("job", f"job {job} ended without a result", f"see its log, {submission.logs[0]}")]
    return read_findings(run_dir / FINDINGS)


def _wait(scheduler: Scheduler, job: str, findings: Path) -> None:
    deadline, shown = time.monotonic() + _QUEUE, ""
    while not findings.exists():
        state = scheduler.active().get(job)
        if state is None:
            break
        if state != shown:
            print(f"job {job}: {state.lower()}", flush=True)
            shown = state
        if state == "PENDING" and time.monotonic() > deadline:
            raise StageFailed(
                f"job {job} did not start within {_QUEUE / 60:.0f} minutes and was cancelled; ask for fewer nodes."
            )
        time.sleep(_POLL)
    deadline = time.monotonic() + _SHARED
    while not findings.exists() and time.monotonic() < deadline:
        time.sleep(_POLL)
