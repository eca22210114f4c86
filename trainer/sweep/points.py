"""The points of a sweep, each composed and checked before any of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from trainer.compose import own_overrides, plain_values, run_name
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.pipeline.run import claim_directory, is_finished, run_directory
from trainer.sweep.journal import Entry


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: what sets it apart: `dpo.beta=0.1,seed=2`.
        overrides: all of its overrides, as Hydra takes them.
    """

    name: str
    overrides: tuple[str, ...]
    config: RunConfig

    @property
    def run_dir(self) -> Path:
        return run_directory(self.config)

    @property
    def kept(self) -> bool:
        """Whether there is nothing to start: it is finished, and is not to be done afresh."""
        return self.config.run.on_existing != "overwrite" and is_finished(self.config)

    def entry(self, state: str, job: str | None = None) -> Entry:
        """What the journal should say of this point now."""
        return Entry(self.name, str(self.run_dir.absolute()), list(self.overrides), state, job)


def compose_points(loader: ConfigLoader, sweep: DictConfig, jobs: Sequence[Sequence[str]], first: int) -> list[Point]:
    """Every run of the sweep, checked.

    Args:
        sweep: the sweep's own composed config, Hydra's section in it.
        jobs: each run's overrides.
        first: the number of the first.

    Raises:
        ConfigError: with the problems of all of them, each problem once.
    """
    points: list[Point] = []
    affected: dict[str, list[str]] = {}  # problem -> the points that have it
    for number, job in enumerate(jobs, start=first):
        composed = loader.load_sweep_config(sweep, list(job))
        with open_dict(composed):
            composed.hydra.job.id, composed.hydra.job.num = str(number), number
            HydraConfig.instance().set_config(composed)
            del composed["hydra"]
        own = own_overrides(job, list(sweep.hydra.overrides.task))
        try:
            values = plain_values(composed)
            if isinstance(run := values.get("run"), dict) and "name" in run:  # otherwise the check below says so
                run["name"] = run_name(run["name"], own)
            points.append(Point(",".join(own), tuple(job), load_config(values)))
        except ConfigError as error:
            for problem in error.problems:
                affected.setdefault(problem, []).append(",".join(own))
    problems = [problem + _where(names, len(jobs)) for problem, names in affected.items()]
    if problems := problems + _shared_directories(points):
        raise ConfigError(problems)
    return points


def claim_all(points: Sequence[Point]) -> None:
    """Claim every run's directory.

    Raises:
        ConfigError: with the problems of all.
    """
    problems: list[str] = []
    for point in points:
        try:
            claim_directory(point.config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _where(names: Sequence[str], count: int) -> str:
    if len(names) == count:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" (at {'; '.join(names[:3])}{more})"


def _shared_directories(points: Sequence[Point]) -> list[str]:
    owners: dict[Path, Point] = {}
    problems = []
    for point in points:
        other = owners.setdefault(point.run_dir, point)
        if other is not point:
            problems.append(
                f"{other.name} and {point.name} would share {point.run_dir}; give values that differ in plain letters."
            )
    return problems
