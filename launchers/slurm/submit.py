"""Hand a run, or a sweep of runs, to Slurm and return."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.jobs import record
from launchers.slurm.commands import outside_environment, slurm
from launchers.slurm.render import render_array, render_jobs
from trainer.config.bases import Submission
from trainer.config.stage import Stage
from trainer.errors import ConfigError, StageFailed
from trainer.record import write_private

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher


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
    return Submission(jobs, scripts, [str(run_dir.absolute() / f"slurm-{job}.log") for job in jobs])


def submit_array(settings: SlurmLauncher, run_dirs: Sequence[Path], sweep_dir: Path) -> Submission:
    """Submit runs of one size as a job array; element N is `run_dirs[N]`, whose directory is claimed.

    Args:
        sweep_dir: where the script, the list of runs and the logs go.

    Raises:
        ConfigError: the runs cannot be an array.
        StageFailed: Slurm is not there or refused.
    """
    if settings.per_stage:
        raise ConfigError("launcher.per_stage: a sweep is one job array, one job per run; set launcher.per_stage=false.")
    directories = [str(run_dir.absolute()) for run_dir in run_dirs]
    if broken := [directory for directory in directories if "\n" in directory]:
        raise ConfigError(f"paths.runs: {broken[0]!r} contains a line break; choose another directory.")
    sweep_dir.mkdir(parents=True, exist_ok=True)
    # A pending element of an earlier array still reads that array's list, so each has files of its own.
    number = 1 + sum(1 for _ in sweep_dir.glob("array-*.tasks"))
    tasks, script = (sweep_dir.absolute() / f"array-{number}.{kind}" for kind in ("tasks", "sbatch"))
    tasks.write_text("".join(f"{directory}\n" for directory in directories))
    write_private(script, render_array(settings, tasks, len(directories), sweep_dir))
    job = sbatch(settings, script)
    for index, run_dir in enumerate(run_dirs):
        record(run_dir, [f"{job}_{index}"], [script])
    return Submission([job], [script], [str(sweep_dir.absolute() / f"slurm-{job}_*.log")])


def sbatch(settings: SlurmLauncher, script: Path, *options: str) -> str:
    """Submit a script with the variables of `launcher.environment`; returns the job id.

    Raises:
        StageFailed: with sbatch's own message.
    """
    try:
        said = slurm(["sbatch", "--parsable", *options, str(script)], {**outside_environment(), **settings.environment})
    except StageFailed as error:
        raise StageFailed(
            f"{error}\nThe script is {script}; its options come from launcher.* (python -m trainer.plan shows them)."
        ) from None
    return said.splitlines()[-1].split(";")[0]  # ID, or ID;CLUSTER
