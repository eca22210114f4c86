"""The number an optimising sweep is after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.fabricate import finish, run_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.sweep.objective import objective_of

MODELS = {"base": {"capability": {"value": 0.5}}, "sft": {"capability": {"value": 0.25}, "cosa_score/seen": {"value": -0.125}}}


def _run(tmp_path: Path, objective: str | None) -> RunConfig:
    config = run_config(tmp_path, "a", run={"name": "a", "objective": objective}, evaluation={"benchmark": "sandbox"})
    finish(config, MODELS)
    return config


@pytest.mark.parametrize(("objective", "value"), [("sft/capability", 0.25), ("sft/cosa_score/seen", -0.125), (None, None)])
def test_it_is_read_from_the_results(tmp_path: Path, objective: str | None, value: float | None) -> None:
    assert objective_of(_run(tmp_path, objective)) == value


def test_a_wrong_name_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"results have no sft/cosa_scor/seen; did you mean sft/cosa_score/seen"):
        objective_of(_run(tmp_path, "sft/cosa_scor/seen"))


def test_without_an_evaluation_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.objective: without an evaluation there is no results\.json"):
        run_config(tmp_path, "a", run={"name": "a", "objective": "sft/capability"})
