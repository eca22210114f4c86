"""What a user meets at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchers.foreign import foreign_launcher
from tests.conftest import keel
from tests.training.here import run_here
from trainer.__main__ import main

QUICK = (
    "experiment=sft",
    "evaluation=none",
    "data.prompts=20",
    "trainer.max_steps=1",
    "tracking.mode=disabled",
    "deepspeed=none",
)


@pytest.mark.parametrize("arguments", [["--help"], pytest.param([], marks=pytest.mark.slow)])
def test_help_lists_groups_and_examples(arguments: list[str], tmp_path: Path) -> None:
    output = keel(*arguments, cwd=tmp_path)
    assert "python -m trainer experiment=cosalign launcher.processes=2" in output
    assert "deepspeed: none, zero0, zero1, zero2, zero2_offload, zero3, zero3_offload" in output


@pytest.mark.parametrize(
    ("variables", "who"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"}, "torchrun"),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "deepspeed or accelerate launch"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun"),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4"}, "srun"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({}, None),
    ],
)
def test_what_another_launcher_starts_is_not_a_run_each(
    variables: dict[str, str], who: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert foreign_launcher(variables) == who
    if who is not None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(["experiment=sft"]) == 2
        assert f"this was started by {who}" in (said := capsys.readouterr().err) and "launcher.processes=2" in said


def test_options_of_hydra_that_lead_nowhere_are_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["-sc", "install=bash"], "-sc: Hydra completes the names of scripts, not `python -m trainer`"),
        (["--shell-completion", "query=bash"], "--shell-completion: Hydra completes"),
        (["--experimental-rerun", "x.pickle"], "the same command again resumes a run"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


def test_every_problem_is_shown_before_anything_is_written(tmp_path: Path) -> None:
    output = keel("trainer.max_lenght=9", "launcher.processes=3", "modle.path=x", cwd=tmp_path, code=2)
    assert "4 problems with this config:" in output
    assert "did you mean max_length" in output
    assert "does not divide into 3 processes" in output
    assert "modle: unknown key; did you mean model?" in output
    assert not (tmp_path / "runs").exists()


def test_an_unknown_experiment_names_those_there_are(tmp_path: Path) -> None:
    output = keel("experiment=cosaling", cwd=tmp_path, code=2)
    assert "Could not find 'experiment/cosaling'" in output
    assert "cosalign" in output


@pytest.mark.slow
def test_a_sweep_runs_each_value_in_a_directory_of_its_own(tmp_path: Path) -> None:
    keel("-m", *QUICK, "seed=0,1", cwd=tmp_path)
    models = sorted(path.parts[-4] for path in tmp_path.glob("runs/sft/*/sft/model/model.safetensors"))
    assert len(models) == 2
    assert [name[-6:] for name in models] == ["seed=0", "seed=1"]


def test_debug_presets_compose_with_an_experiment(tmp_path: Path) -> None:
    run_dir = run_here(tmp_path, "experiment=cosalign", "debug=one_step")
    assert run_dir == tmp_path / "debug" / "one_step" and (run_dir / "dpo" / "model" / "model.safetensors").exists()
