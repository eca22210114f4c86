"""What the runs of a sweep are called, and that all their problems are found before one starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.warm.client import warm_keel
from trainer.compose import lenient, own_overrides, run_name

COMMAND = ["experiment=sft", "++seed=0,1", "++data.prompts=20", "++trainer.learning_rate=1e-5,1e-4"]


def test_a_point_has_one_name_whatever_the_order_on_the_command_line() -> None:
    job = ["experiment=sft", "++seed=1", "++data.prompts=20", "++trainer.learning_rate=1e-5"]
    own = own_overrides(job, COMMAND)
    assert own == ("seed=1", "trainer.learning_rate=1e-5")
    assert own_overrides(job[::-1], COMMAND[::-1]) == own


def test_what_a_sweeper_adds_of_itself_sets_a_run_apart_too() -> None:
    """`hydra.sweeper.params` does not stand on the command line."""
    assert own_overrides(["experiment=sft", "++dpo.beta=0.2"], ["experiment=sft"]) == ("dpo.beta=0.2",)


def test_a_swept_group_is_part_of_the_name() -> None:
    assert own_overrides(["deepspeed=zero3", "++seed=0"], ["deepspeed=zero2,zero3", "++seed=0"]) == ("deepspeed=zero3",)


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (("seed=1",), "base/seed=1"),
        (("data.path=/my/a b.jsonl", "seed=1"), "base/data.path=_my_a_b.jsonl,seed=1"),
        ((), "base"),
    ],
)
def test_a_name_is_a_plain_directory_below_the_base(own: tuple[str, ...], name: str) -> None:
    assert run_name("base", own) == name


@pytest.mark.parametrize("value", ["0,1", "range(0,3)", "choice(1,2)", "interval(1e-5,1e-3)", "tag(log,interval(1e-5,1e-3))"])
def test_every_sweep_syntax_reaches_hydra_as_it_was_written(value: str) -> None:
    assert lenient([f"dpo.beta={value}", "sweep=dpo_rate", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3"]) == [
        f"++dpo.beta={value}",
        "sweep=dpo_rate",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
    ]
    assert own_overrides(["++dpo.beta=1e-4"], [f"++dpo.beta={value}"]) == ("dpo.beta=1e-4",)


def test_the_problems_of_all_runs_are_shown_and_none_is_started(tmp_path: Path) -> None:
    output = warm_keel(
        "-m", "experiment=sft", "seed=0,1", "trainer.max_lenght=3", "launcher.processes=2,3", cwd=tmp_path, code=2
    )
    assert "2 problems with this config:" in output
    assert output.count("did you mean max_length") == 1
    assert "does not divide into 3 processes" in output
    assert "(at launcher.processes=3,seed=0; launcher.processes=3,seed=1)" in output
    assert not list(tmp_path.glob("runs/sft/launcher*"))


def test_two_points_that_would_share_a_directory_are_refused(tmp_path: Path) -> None:
    output = warm_keel("-m", "experiment=sft", "tracking.project='a b','a~b'", cwd=tmp_path, code=2)
    assert "would share runs/sft/tracking.project=_a_b_" in output


def test_an_optimising_sweep_without_an_objective_is_refused(tmp_path: Path) -> None:
    output = warm_keel("-m", "experiment=sft", "hydra/sweeper=optuna", "seed=choice(0,1)", cwd=tmp_path, code=2)
    assert "run.objective: an optimising sweeper needs a number of results.json" in output
