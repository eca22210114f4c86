"""Which runs of a sweep are submitted: those that are neither finished nor under way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launchers.jobs import JOBS
from launchers.slurm.scheduler import SlurmScheduler
from launchers.slurm.section import SlurmLauncher
from tests.sweep.fabricate import finish, run_config
from trainer.config.bases import Submission
from trainer.config.run import RunConfig
from trainer.errors import ConfigError, StageFailed
from trainer.pipeline.run import CONFIG, claim_directory, is_finished
from trainer.sweep import array
from trainer.sweep.journal import Journal
from trainer.sweep.points import Point


class Queue(SlurmScheduler):
    """Stands for Slurm: what it has, and what was submitted to it."""

    def __init__(self, *answers: dict[str, str]):
        super().__init__(SlurmLauncher(name="slurm"))
        self.answers = list(answers)
        self.submitted: list[list[str]] = []

    def active(self) -> dict[str, str]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if "silent" in answer:
            raise StageFailed("squeue did not answer")
        return answer

    def submit_array(self, config: RunConfig, run_dirs: Sequence[Path], sweep_dir: Path) -> Submission:
        self.submitted.append([run_dir.name for run_dir in run_dirs])
        return Submission(["50"], [sweep_dir / "array-1.sbatch"], [str(sweep_dir / "slurm-50_*.log")])


def queue(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, str]) -> Queue:
    monkeypatch.setattr(array.time, "sleep", lambda _seconds: None)
    return Queue(*answers)


def points(runs: Path, count: int, **sections: Any) -> list[Point]:
    sections = {"launcher": {"name": "slurm", "gpus_per_node": 0}} | sections
    return [
        Point(f"seed={seed}", (f"seed={seed}",), run_config(runs, f"base/seed={seed}", seed=seed, **sections))
        for seed in range(count)
    ]


def record_job(point: Point, job: str) -> None:
    point.run_dir.mkdir(parents=True, exist_ok=True)
    (point.run_dir / JOBS).write_text(json.dumps({"jobs": [job]}) + "\n")


def test_only_the_holes_are_submitted_as_one_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = queue(monkeypatch, {"40_1": "RUNNING", "41": "PENDING"})
    sweep = points(tmp_path, 5)
    finish(sweep[0].config)
    for point, job in ((sweep[1], "40_1"), (sweep[2], "40_2"), (sweep[3], "41")):
        claim_directory(point.config)
        record_job(point, job)
    journal = Journal(tmp_path / "base" / "sweep.jsonl")
    array.submit(slurm, sweep, journal, tmp_path / "base" / "sweep")
    assert slurm.submitted == [["seed=2", "seed=4"]]
    found = {name: (entry.state, entry.job) for name, entry in journal.entries().items()}
    assert found == {
        "seed=0": ("kept", None),
        "seed=1": ("running", "40_1"),
        "seed=2": ("submitted", "50_0"),
        "seed=3": ("pending", "41"),
        "seed=4": ("submitted", "50_1"),
    }
    assert (sweep[4].run_dir / CONFIG).exists()
    printed = capsys.readouterr().out
    assert "5 runs, 2 submitted" in printed
    assert "squeue --jobs=50" in printed
    assert f"python -m trainer.sweep {tmp_path / 'base'}" in printed


def test_a_sweep_that_is_done_submits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = queue(monkeypatch, {})
    sweep = points(tmp_path, 2)
    for point in sweep:
        finish(point.config)
    array.submit(slurm, sweep, Journal(tmp_path / "base" / "sweep.jsonl"), tmp_path / "base" / "sweep")
    assert slurm.submitted == []


def test_another_config_in_the_directories_is_refused_for_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = queue(monkeypatch, {})
    for point in points(tmp_path, 2):
        finish(point.config)
    with pytest.raises(ConfigError) as caught:
        array.submit(
            slurm, points(tmp_path, 2, data={"format": "sandbox", "prompts": 7}), Journal(tmp_path / "l"), tmp_path / "s"
        )
    assert len(caught.value.problems) == 2
    assert slurm.submitted == []


def test_runs_of_different_sizes_are_not_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = queue(monkeypatch, {})
    first, second = points(tmp_path, 2)
    other = replace(second, config=run_config(tmp_path, "base/b", launcher={"name": "slurm", "gpus_per_node": 0, "mem": "8G"}))
    with pytest.raises(ConfigError, match="launcher: it differs between the runs"):
        array.submit(slurm, [first, other], Journal(tmp_path / "l"), tmp_path / "s")
    assert slurm.submitted == []


def test_finished_means_this_config_and_every_stage(tmp_path: Path) -> None:
    config = run_config(tmp_path, "base/seed=0")
    assert not is_finished(config)
    finish(config)
    assert is_finished(config)
    assert not is_finished(run_config(tmp_path, "base/seed=0", seed=1))
    assert Point("seed=0", (), config).kept
    assert not Point("seed=0", (), _overwriting(config)).kept
    (tmp_path / "base" / "seed=0" / "sft" / "manifest.json").unlink()
    assert not is_finished(config)


def _overwriting(config: RunConfig) -> RunConfig:
    return replace(config, run=replace(config.run, on_existing="overwrite"))


def test_a_plain_run_of_the_sweeps_name_leaves_the_sweep_alone(tmp_path: Path) -> None:
    sweep = points(tmp_path, 1)
    finish(sweep[0].config)
    Journal(tmp_path / "base" / "sweep.jsonl").append(sweep[0].entry("done"))
    (tmp_path / "base" / "sweep").mkdir()
    config = run_config(tmp_path, "base")
    claim_directory(config)
    claim_directory(_overwriting(config))
    assert (tmp_path / "base" / "sweep.jsonl").exists()
    assert (tmp_path / "base" / "sweep").exists()
    assert is_finished(sweep[0].config)


def test_waiting_ends_with_the_last_job_and_says_which_runs_are_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = queue(monkeypatch, {"50_0": "PENDING", "50_1": "RUNNING"}, {"silent": ""}, {"50_1": "RUNNING"}, {"60": "RUNNING"})
    sweep = points(tmp_path, 2)
    for index, point in enumerate(sweep):
        record_job(point, f"50_{index}")
    finish(sweep[0].config)
    journal = Journal(tmp_path / "base" / "sweep.jsonl")
    failures = array.wait_for(slurm, sweep, journal)
    assert list(failures) == ["seed=1"]
    assert "job 50_1 ended and the run is not done" in str(failures["seed=1"])
    assert {name: entry.state for name, entry in journal.entries().items()} == {"seed=0": "done", "seed=1": "failed"}
    assert "waiting for jobs: 1 pending, 1 running\nwaiting for jobs: 1 running\n" in capsys.readouterr().out


def test_waiting_ends_when_slurm_has_long_been_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = queue(monkeypatch, {"silent": ""})
    with pytest.raises(StageFailed, match="did not answer"):
        array.wait_for(slurm, points(tmp_path, 1), Journal(tmp_path / "l"))
    assert "the jobs go on without this process" in capsys.readouterr().out
