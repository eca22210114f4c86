"""The examination as a Slurm job of its own, through the script that a real run would get, waited for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from launchers.slurm.commands import active_jobs, slurm
from launchers.slurm.render import render, whole_size
from launchers.slurm.submit import sbatch
from trainer.config.schema import SlurmLauncher
from trainer.doctor.checks import Finding
from trainer.doctor.checkup import FINDINGS, read_findings
from trainer.errors import StageFailed

_TIME, _LEAD = "00:10:00", 30  # the job's limit, and its signal so many seconds before
_QUEUE = 1800.0  # seconds to wait for the job to start
_POLL = 2.0
_SHARED = 10.0  # seconds for a file of a finished job to show on this node


def examine_in_job(settings: SlurmLauncher, run_dir: Path) -> list[Finding]:
    """Submit, wait, and read what the job found. The job is cancelled however this ends early, Ctrl-C included.

    Raises:
        StageFailed: Slurm refused, or did not start the job in time.
    """
    short = replace(settings, time=_TIME, signal_lead=_LEAD)  # type: ignore[type-var]  # pydantic dataclasses are dataclasses
    script, log = run_dir / "job.sbatch", run_dir / "slurm-%j.log"
    script.write_text(
        render(short, "keel-doctor", whole_size(short), log, ["-m", "trainer.doctor.job", str(run_dir.absolute())])
    )
    job = sbatch(script)
    try:
        _wait(job, run_dir / FINDINGS)
    except BaseException:
        slurm(["scancel", job])
        raise
    if not (run_dir / FINDINGS).exists():
        written = run_dir / f"slurm-{job}.log"
        return [Finding("job", f"job {job} ended without a result", f"its own words are in {written}")]
    return read_findings(run_dir / FINDINGS)


def _wait(job: str, findings: Path) -> None:
    deadline, shown = time.monotonic() + _QUEUE, ""
    while not findings.exists():
        state = active_jobs().get(job)
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
