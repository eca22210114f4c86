"""What Optuna is told to choose from, and what it does with an earlier start's trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from trainer.errors import ConfigError
from trainer.sweep.launch import SweepFailed
from trainer.sweep.optimise import Search, optimise, search_space


def test_hydras_sweep_syntax_becomes_optunas_distributions() -> None:
    space, fixed = search_space(
        [
            "experiment=sft",
            "++a=interval(0.1,0.5)",
            "++b=tag(log,interval(1e-5,1e-3))",
            "++c=int(interval(1,8))",
            "++d=range(0,10,3)",
            "++e=choice(x,'y z')",
            "++f=1,2",
            "++g=range(0.0,1.0,0.5)",
        ]
    )
    assert fixed == ["experiment=sft"]
    assert space == {
        "++a": FloatDistribution(0.1, 0.5),
        "++b": FloatDistribution(1e-5, 1e-3, log=True),
        "++c": IntDistribution(1, 8),
        "++d": IntDistribution(0, 9, step=3),
        "++e": CategoricalDistribution(["x", "y\\ z"]),
        "++f": CategoricalDistribution(["1", "2"]),
        "++g": CategoricalDistribution(["0.0", "0.5"]),
    }


def test_the_command_line_overrules_what_the_config_searches() -> None:
    space, fixed = search_space(["++a=interval(0.1,0.5)", "++b=choice(1,2)", "++a=0.3"])
    assert list(space) == ["++b"]
    assert fixed == ["++a=0.3"]


class Runs:
    """Stands for our Hydra launcher: notes what it is asked to run, and answers with `objective`."""

    def __init__(self, objective: Any):
        self.objective = objective
        self.asked: list[list[str]] = []

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        self.asked += [job[-1:] for job in jobs]
        ended = []
        for job in jobs:
            value = self.objective(float(job[-1].split("=")[1]))
            one = JobReturn(overrides=job, status=JobStatus.FAILED if value is None else JobStatus.COMPLETED)
            one.return_value = value
            ended.append(one)
        return ended


def search(tmp_path: Path, launcher: Runs, n_trials: int, direction: Any = "maximize", n_jobs: int = 2) -> Search:
    config = OmegaConf.create({"run": {"objective": "m/x"}, "hydra": {"sweep": {"dir": str(tmp_path / "base" / "sweep")}}})
    return Search(n_trials, n_jobs, direction, seed=0, params=None, config=config, launcher=launcher)  # type: ignore[arg-type]


SPACE = ["++dpo.beta=interval(0.0,1.0)"]


def test_a_search_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Runs(lambda beta: beta)
    optimise(search(tmp_path, first, 3), SPACE)
    assert len(first.asked) == 3
    second = Runs(lambda beta: beta)
    optimise(search(tmp_path, second, 5), SPACE)
    assert len(second.asked) == 2
    assert not [job for job in second.asked if job in first.asked]
    capsys.readouterr()
    third = Runs(lambda beta: beta)
    optimise(search(tmp_path, third, 5), SPACE)
    assert third.asked == []
    best = max(job[0].split("=")[1] for job in first.asked + second.asked)
    assert f"at dpo.beta={best}\nits run: {tmp_path / 'base'}/dpo.beta={best}" in capsys.readouterr().out


def test_failed_runs_and_those_cut_off_are_tried_again_first(tmp_path: Path) -> None:
    first = Runs(lambda beta: None)
    with pytest.raises(SweepFailed, match="2 of 2 runs failed"):
        optimise(search(tmp_path, first, 2), SPACE)

    def stop(_beta: float) -> None:
        raise KeyboardInterrupt

    cut_off = Runs(stop)
    with pytest.raises(KeyboardInterrupt):
        optimise(search(tmp_path, cut_off, 3, n_jobs=3), SPACE)
    assert cut_off.asked[:2] == first.asked
    last = Runs(lambda beta: beta)
    optimise(search(tmp_path, last, 3), SPACE)
    assert last.asked == cut_off.asked


def test_another_direction_is_refused(tmp_path: Path) -> None:
    optimise(search(tmp_path, Runs(lambda beta: beta), 1), SPACE)
    with pytest.raises(ConfigError, match="holds a search that does maximize, not minimize"):
        optimise(search(tmp_path, Runs(lambda beta: beta), 2, direction="minimize"), SPACE)


@pytest.mark.parametrize("wrong", [{"direction": "maximise"}, {"n_jobs": 0}])
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper: direction="):
        optimise(search(tmp_path, Runs(lambda beta: beta), 1, **wrong), SPACE)


def test_other_choices_are_refused(tmp_path: Path) -> None:
    optimise(search(tmp_path, Runs(lambda beta: beta), 1), ["++a=choice(1,2)"])
    with pytest.raises(ConfigError, match="the search space is not that of the earlier start"):
        optimise(search(tmp_path, Runs(lambda beta: beta), 2), ["++a=choice(1,2,3)"])


def test_nothing_to_choose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to choose"):
        optimise(search(tmp_path, Runs(lambda beta: beta), 1), ["++a=1"])


def test_the_best_is_found(tmp_path: Path) -> None:
    runs = Runs(lambda beta: -((beta - 0.3) ** 2))
    optimise(search(tmp_path, runs, 30, n_jobs=1), SPACE)
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'base' / 'sweep' / 'optuna.db'}")
    assert abs(study.best_params["++dpo.beta"] - 0.3) < 0.1
