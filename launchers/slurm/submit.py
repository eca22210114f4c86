"""Hand a run, or a sweep of runs, to Slurm and return."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launchers.slurm.commands import active_jobs, outside_environment, slurm
from launchers.slurm.render import render_array, render_jobs, slurm_settings
from trainer.config.schema import RunConfig
from trainer.errors import ConfigError, StageFailed

JOBS = "jobs.jsonl"  # in the run directory: every submission of the run


@dataclass(frozen=True)
class Submission:
    """Attributes: job_ids and scripts, one a job; logs: what each job writes, an array's with `*` for the index."""

    job_ids: list[str]
    scripts: list[Path]
    logs: list[str]


def inside_allocation() -> bool:
    """Whether this process runs in a Slurm job: a batch script, or a shell that salloc gave."""
    return "SLURM_JOB_ID" in os.environ


def submit_run(config: RunConfig, run_dir: Path) -> Submission:
    """Submit a run whose directory is claimed: one job, or with `launcher.per_stage` one a stage, each after the last.

    Raises:
        ConfigError: a job of this run is still pending or running, or a value cannot stand in a script.
        StageFailed: Slurm is not there or refused; nothing stays in the queue.
    """
    refuse_twice(run_dir)
    texts = render_jobs(config, run_dir)
    scripts = [run_dir.absolute() / name for name in texts]
    for script, text in zip(scripts, texts.values(), strict=True):
        script.write_text(text)
    jobs: list[str] = []
    for script in scripts:
        after = [f"--dependency=afterok:{jobs[-1]}", "--kill-on-invalid-dep=yes"] if jobs else []
        try:
            jobs.append(sbatch(script, *after))
        except StageFailed:
            if jobs:
                slurm(["scancel", *jobs])
            raise
    _record(run_dir, jobs, scripts)
    return Submission(jobs, scripts, [str(run_dir.absolute() / f"slurm-{job}.log") for job in jobs])


def submit_array(config: RunConfig, run_dirs: Sequence[Path], sweep_dir: Path) -> Submission:
    """Submit runs of one size as a job array; element N is `run_dirs[N]`, whose directory is claimed.

    Args:
        config: of any of them; its launcher section is that of all.
        sweep_dir: where the script, the list of runs and the logs go.

    Raises:
        ConfigError: the runs cannot be an array.
        StageFailed: Slurm is not there or refused.
    """
    if slurm_settings(config).per_stage:
        raise ConfigError("launcher.per_stage: a sweep is one job array, a job a run; set launcher.per_stage=false.")
    directories = [str(run_dir.absolute()) for run_dir in run_dirs]
    if broken := [directory for directory in directories if "\n" in directory]:
        raise ConfigError(f"paths.runs: {broken[0]!r} contains a line break; choose another directory.")
    sweep_dir.mkdir(parents=True, exist_ok=True)
    # A pending element of an earlier array still reads that array's list, so each has files of its own.
    number = 1 + sum(1 for _ in sweep_dir.glob("array-*.tasks"))
    tasks, script = (sweep_dir.absolute() / f"array-{number}.{kind}" for kind in ("tasks", "sbatch"))
    tasks.write_text("".join(f"{directory}\n" for directory in directories))
    script.write_text(render_array(config, tasks, len(directories), sweep_dir))
    job = sbatch(script)
    for index, run_dir in enumerate(run_dirs):
        _record(run_dir, [f"{job}_{index}"], [script])
    return Submission([job], [script], [str(sweep_dir.absolute() / f"slurm-{job}_*.log")])


def sbatch(script: Path, *options: str) -> str:
    """Submit a script; returns the job id.

    Raises:
        StageFailed: with sbatch's own words.
    """
    try:
        said = slurm(["sbatch", "--parsable", *options, str(script)], outside_environment())
    except StageFailed as error:
        raise StageFailed(
            f"{error}\nThe script is {script}; its options come from launcher.* (python -m trainer.plan shows them)."
        ) from None
    return said.splitlines()[-1].split(";")[0]  # ID, or ID;CLUSTER


def how_to_follow(submission: Submission) -> list[str]:
    """Commands to watch a submission, and to end it, for printing."""
    jobs = ",".join(submission.job_ids)
    return [
        f"submitted: job {', '.join(submission.job_ids)}",
        f"state:     squeue --jobs={jobs}",
        *(f"log:       tail -F {log}" for log in submission.logs),
        f"stop:      scancel {jobs.replace(',', ' ')}",
    ]


def recorded_jobs(run_dir: Path) -> list[str]:
    """The ids of all jobs that were ever submitted for a run."""
    path = run_dir / JOBS
    lines = path.read_text().splitlines() if path.exists() else []
    return [job for line in lines for job in json.loads(line)["jobs"]]


def refuse_twice(run_dir: Path) -> None:
    """Raises ConfigError where a job of this run is still pending or running."""
    recorded = recorded_jobs(run_dir)
    active = active_jobs() if recorded else {}
    for job in recorded:
        if job in active:
            raise ConfigError(
                f"run.name: job {job} of this run is {active[job].lower()}; two jobs in one run directory would "
                f"overwrite each other. Wait for it, `scancel {job}`, or choose another run.name."
            )


def _record(run_dir: Path, jobs: list[str], scripts: list[Path]) -> None:
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "jobs": jobs, "scripts": [str(s) for s in scripts]}
    with (run_dir / JOBS).open("a") as file:
        file.write(json.dumps(entry) + "\n")
