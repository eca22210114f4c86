"""A machine can be examined for a run whose global batch does not divide into its ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.doctor.__main__ import batch_advice, config_of, main
from trainer.doctor.checks import Finding
from trainer.errors import ConfigError

SIXTEEN_RANKS = ("experiment=cosalign", "launcher=slurm", "launcher.nodes=2")


def test_it_is_said_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.doctor.__main__.check_up", lambda config: [Finding("ranks", "16 ranks")])
    with pytest.raises(ConfigError):
        load_config(composed(SIXTEEN_RANKS))
    assert main(SIXTEEN_RANKS) == 0
    lines = capsys.readouterr().out.splitlines()
    wrong = "train_batch_size=32 does not divide into 16 processes x per_device_train_batch_size=16"
    assert lines[0].split() == ["!", "batch", "size", "sft:", *wrong.split()]
    assert lines[1].split() == ["->", "per_device_train_batch_size", "can", "be", "1,", "2."]
    assert lines[-1] == "all well"


def test_nothing_is_said_of_a_batch_that_divides() -> None:
    assert not batch_advice(config_of([*SIXTEEN_RANKS, "trainer.per_device_train_batch_size=2"]))


@pytest.mark.parametrize("mistake", ["trainer.max_lenght=9", "launcher.time=never", "launcher.node=2"])
def test_another_mistake_is_refused_with_every_problem(mistake: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_of([*SIXTEEN_RANKS, mistake])
    assert any(mistake.split("=")[0] in problem for problem in error.value.problems)
    assert any("does not divide" in problem for problem in error.value.problems)
