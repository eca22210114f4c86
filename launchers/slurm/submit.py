"""Hand a run, or a sweep of runs, to Slurm and return."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.jobs import record
from launchers.slurm.commands import NoAnswer, longest_array, outside_environment, queued_jobs, show_job, slurm
from launchers.slurm.render import render_array, render_jobs
from trainer.config.bases import Submission
from trainer.config.run import WITHHELD
from trainer.config.stage import Stage
from trainer.errors import ConfigError, StageFailed
from trainer.record import write_private

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

_LOOKS, _PAUSE = 6, 5.0  # how often the queue is searched for a job of which sbatch did not tell, and seconds before each


def submit_run(settings: SlurmLauncher, name: str, run_dir: Path, stages: Sequence[Stage]) -> Submission:
    """Submit a run whose directory is claimed: one job, or with `launcher.per_stage` one per stage, each after the last.

    Raises:
        ConfigError: a value cannot stand in a script.
        StageFailed: Slurm is not there or refused; nothing stays in the queue.
    """
    texts = render_jobs(settings, name, run_dir, stages)
    scripts = [run_dir.absolute() / name for name in texts]
    for script, text in zip(scripts, texts.values(), strict=True):
        write_private(script, text)
    jobs: list[str] = []
    for script in scripts:
        after = [f"--dependency=afterok:{jobs[-1]}", "--kill-on-invalid-dep=yes"] if jobs else []
        try:
            jobs.append(sbatch(settings, script, *after))
        except StageFailed:
            if jobs:
                slurm(["scancel", *jobs])
            raise
    record(run_dir, jobs, scripts)
    _say_if_never_requeued(jobs[0])
    return Submission(jobs, scripts, [str(run_dir.absolute() / f"slurm-{job}.log") for job in jobs])


def submit_array(settings: SlurmLauncher, run_dirs: Sequence[Path], sweep_dir: Path) -> Submission:
    """Submit runs of one size as a job array, or as several where one would be longer than Slurm takes; their directories are
    claimed.

    Args:
        sweep_dir: where the script, the list of runs and the logs go.

    Raises:
        ConfigError: the runs cannot be an array.
        StageFailed: Slurm is not there or refused.
    """
    if settings.per_stage:
        raise ConfigError("launcher.per_stage: a sweep is one job array, one job per run; set launcher.per_stage=false.")
    if broken := [run_dir for run_dir in run_dirs if "\n" in str(run_dir.absolute())]:
        raise ConfigError(f"paths.runs: {str(broken[0])!r} contains a line break; choose another directory.")
    sweep_dir.mkdir(parents=True, exist_ok=True)
    most = longest_array() or len(run_dirs)
    jobs, scripts, elements = [], [], []
    for first in range(0, len(run_dirs), most):
        part = run_dirs[first : first + most]
        # A pending element of an earlier array still reads that array's list, so each has files of its own.
        number = 1 + sum(1 for _ in sweep_dir.glob("array-*.tasks"))
        tasks, script = (sweep_dir.absolute() / f"array-{number}.{kind}" for kind in ("tasks", "sbatch"))
        tasks.write_text("".join(f"{run_dir.absolute()}\n" for run_dir in part))
        write_private(script, render_array(settings, tasks, len(part), sweep_dir))
        job = sbatch(settings, script)
        for index, run_dir in enumerate(part):
            elements.append(f"{job}_{index}")
            record(run_dir, [elements[-1]], [script])
        jobs.append(job)
        scripts.append(script)
    _say_if_never_requeued(jobs[0])
    return Submission(jobs, scripts, [str(sweep_dir.absolute() / f"slurm-{job}_*.log") for job in jobs], elements)


def _say_if_never_requeued(job: str) -> None:
    with suppress(StageFailed):
        if not show_job(job).requeue:
            print(
                f"job {job} may not be requeued here: where it is stopped before it is done, it submits a successor.",
                flush=True,
            )


def _arrived(script: Path, after: str | None) -> str | None:
    """The id of the job that Slurm made of a script without telling sbatch in time; None where it made none.

    Args:
        after: as for `sbatch`. Other elements of an array may have successors of the same script.
    """
    base, _, index = (after or "").partition("_")
    for _ in range(_LOOKS):
        time.sleep(_PAUSE)
        with suppress(StageFailed):
            ids = [job.partition("_") for job, one in queued_jobs().items() if one.script == str(script)]
            found = [job for job, _, element in ids if after is None or (job != base and element == index)]
            if found:
                return found[-1]  # of an array, the whole
    return None


def sbatch(
    settings: SlurmLauncher, script: Path, *options: str, more: Mapping[str, str] | None = None, after: str | None = None
) -> str:
    """Submit a script with the variables of `launcher.environment`, and `more`; returns the job id.

    Args:
        after: the job with the same script, still in the queue, that the new one succeeds.

    Raises:
        StageFailed: with sbatch's own message.
    """
    own = {name: value for name, value in settings.environment.items() if value != WITHHELD}  # in a job they are there
    try:
        said = slurm(["sbatch", "--parsable", *options, str(script)], {**outside_environment(), **own, **(more or {})})
    except NoAnswer as error:
        if (job := _arrived(script, after)) is None:
            raise NoAnswer(
                f"{error}\nNo job of {script} is in the queue so far; one may still come, and the same command looks for it."
            ) from None
        return job
    except StageFailed as error:
        raise StageFailed(
            f"{error}\nThe script is {script}; its options come from launcher.* (python -m trainer.plan shows them)."
        ) from None
    return said.splitlines()[-1].split(";")[0]  # ID, or ID;CLUSTER
