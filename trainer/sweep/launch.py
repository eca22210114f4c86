"""Start the runs of a sweep that are not done: the work behind `hydra/launcher=keel`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from trainer.errors import ConfigError, KeelError
from trainer.sweep.array import submit, wait_for
from trainer.sweep.here import run_here
from trainer.sweep.journal import Journal
from trainer.sweep.objective import objective_of
from trainer.sweep.points import Point, compose_points

_BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class SweepFailed(KeelError, RuntimeError):
    """Some runs of a sweep failed; the others were carried out."""

    exit_code = 1


def sweep_journal(sweep: DictConfig) -> Journal:
    """The journal beside the directory of the sweep's other files: `sweep.jsonl` beside `sweep/`."""
    return Journal(Path(sweep.hydra.sweep.dir).with_suffix(".jsonl"))


def launch(loader: ConfigLoader, sweep: DictConfig, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Check all runs, then start those that are not done.

    A plain sweep that a scheduler takes is submitted and left alone. Here, and for a sweeper that wants objectives, it is
    waited for.

    Raises:
        ConfigError: with the problems of all runs; none was started.
        SweepFailed: runs of a plain sweep failed; an optimising sweeper is told which instead.
        Interrupted, KeyboardInterrupt: stopped; the runs after that were not started.
    """
    points = compose_points(loader, sweep, jobs, first)
    optimising = sweep.hydra.sweeper._target_ != _BASIC
    if optimising and any(point.config.run.objective is None for point in points):
        raise ConfigError(
            "run.objective: an optimising sweeper needs a number of results.json: run.objective=sft_dpo/cosa_score/seen."
        )
    journal = sweep_journal(sweep)
    launcher = points[0].config.launcher
    if launcher.submits and launcher.scheduler is not None:
        submit(launcher.scheduler, points, journal, Path(sweep.hydra.sweep.dir))
        if not optimising:
            return [JobReturn(overrides=point.overrides, status=JobStatus.COMPLETED) for point in points]
        failures = wait_for(launcher.scheduler, points, journal)
    else:
        failures = run_here(points, journal, report=not optimising)
        if failures and not optimising:
            raise SweepFailed(f"{len(failures)} of {len(points)} runs failed; the same command runs those again.")
    return [_returned(point, failures.get(point.name)) for point in points]


def _returned(point: Point, error: KeelError | None) -> JobReturn:
    ended = JobReturn(overrides=point.overrides, status=JobStatus.FAILED if error else JobStatus.COMPLETED)
    ended.return_value = error or objective_of(point.config)
    return ended
