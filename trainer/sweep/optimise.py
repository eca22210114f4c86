"""A sweep whose next runs depend on the last: the work behind `hydra/sweeper=optuna`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from trainer.compose import lenient, own_overrides, run_name
from trainer.errors import ConfigError
from trainer.sweep.launch import SweepFailed, sweep_journal
from trainer.sweep.state import present_rows
from trainer.sweep.table import print_table

DATABASE = "optuna.db"
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Search:
    """What to search and how; `conf/hydra/sweeper/optuna.yaml` explains the settings.

    Attributes:
        config: the sweep's composed config, Hydra's section in it.
        launcher: who starts the runs.
    """

    n_trials: int
    n_jobs: int
    direction: Direction
    seed: int
    params: Mapping[str, Any] | None
    config: DictConfig
    launcher: Launcher


def optimise(search: Search, arguments: Sequence[str]) -> None:
    """Let Optuna choose runs until `n_trials` of them are finished, in this start and all before.

    Runs that failed or were cut off in an earlier start are tried again first, in their own directories.

    Raises:
        ConfigError: there is nothing to choose, or an earlier start searched something else.
        SweepFailed: runs failed.
    """
    if search.direction not in get_args(Direction) or search.n_jobs < 1:
        raise ConfigError(
            f"hydra.sweeper: direction={search.direction} must be one of {', '.join(get_args(Direction))}, "
            f"and n_jobs={search.n_jobs} at least 1."
        )
    params = lenient([f"{key}={value}" for key, value in (search.params or {}).items()])
    space, fixed = search_space([*params, *arguments])
    if not space:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to choose; give at least one key=interval(low,high), choice(a,b) or range(low,high)."
        )
    study = _study(search)
    again = _unfinished(study, space)
    finished = len(study.get_trials(states=[TrialState.COMPLETE]))
    remaining, failed, launched = search.n_trials - finished, 0, 0
    print(f"optuna: {finished} of {search.n_trials} runs are finished, {max(0, remaining)} to go", flush=True)
    while remaining > launched:
        trials = [_ask(study, space, again) for _ in range(min(search.n_jobs, remaining - launched))]
        jobs = [[*fixed, *_overrides(trial.params)] for trial in trials]
        for trial, ended in zip(trials, search.launcher.launch(jobs, initial_job_idx=finished + launched), strict=True):
            failed += not _tell(study, trial, ended)
        launched += len(trials)
    journal = sweep_journal(search.config)
    print_table(f"{journal.path.parent.name}: {search.config.run.objective}, {search.direction}", present_rows(journal))
    if study.get_trials(states=[TrialState.COMPLETE]):
        best = own_overrides(_overrides(study.best_params), [])
        print(
            f"best: {study.best_value:.4f} at {' '.join(best)}\nits run: {run_name(str(journal.path.parent), best)}", flush=True
        )
    if failed:
        raise SweepFailed(f"{failed} of {launched} runs failed; the same command tries those again.")


def search_space(overrides: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """What Optuna may choose, by key, and the overrides that are the same for every run. Later ones win."""
    latest = {override.get_key_element(): override for override in OverridesParser.create().parse_overrides(list(overrides))}
    space = {key: _distribution(override) for key, override in latest.items() if override.is_sweep_override()}
    return space, [str(override.input_line) for override in latest.values() if not override.is_sweep_override()]


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        assert low is not None and high is not None  # Hydra's grammar asks for both
        whole = isinstance(low, int) and isinstance(high, int)
        return IntDistribution(int(low), int(high), log) if whole else FloatDistribution(low, high, log)
    if isinstance(value, RangeSweep) and isinstance(numbers := value.range(), range) and numbers.step > 0 and len(numbers):
        return IntDistribution(numbers[0], numbers[-1], step=numbers.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _overrides(choices: Mapping[str, Any]) -> list[str]:
    """Optuna's choices as overrides; numbers with four digits, since they become the names of directories."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in choices.items()]


def _study(search: Search) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(search.config.hydra.sweep.dir).absolute() / DATABASE
    path.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="sweep", storage=f"sqlite:///{path}", direction=search.direction, load_if_exists=True
    )
    if study.direction.name.lower() != search.direction:
        raise ConfigError(
            f"hydra.sweeper.direction: {path} holds a search that does {study.direction.name.lower()}, not {search.direction}; "
            "choose another run.name, or delete that file to search afresh."
        )
    # The number of trials in the seed: a search that goes on should not draw what it drew first.
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(study.trials))
    return study


def _unfinished(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
    """The choices of an earlier start that gave no number: its runs failed, or it was stopped while they ran."""
    for trial in study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING]):
        study.tell(trial.number, state=TrialState.FAIL)
    finished = [trial.params for trial in study.get_trials(states=[TrialState.COMPLETE])]
    again: list[dict[str, Any]] = []
    for trial in study.get_trials(states=[TrialState.FAIL]):
        if trial.params.keys() == space.keys() and trial.params not in [*finished, *again]:
            again.append(trial.params)
    return again


def _ask(study: optuna.Study, space: dict[str, BaseDistribution], again: list[dict[str, Any]]) -> optuna.Trial:
    if again:
        study.enqueue_trial(again.pop(0))
    try:
        return study.ask(space)
    except ValueError as error:
        raise ConfigError(
            f"hydra/sweeper=optuna: the search space is not that of the earlier start ({error}); "
            f"keep it, choose another run.name, or delete sweep/{DATABASE} to search afresh."
        ) from error


def _tell(study: optuna.Study, trial: optuna.Trial, ended: JobReturn) -> bool:
    if ended.status != JobStatus.COMPLETED:
        study.tell(trial, state=TrialState.FAIL)
        return False
    study.tell(trial, ended.return_value)
    return True
