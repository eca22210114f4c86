"""The journal of a sweep, and the table that is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launchers.slurm import scheduler
from launchers.slurm.commands import Job
from tests.sweep.fabricate import finish, run_config
from trainer.config.run import write_config
from trainer.errors import ArtifactError, StageFailed
from trainer.pipeline.run import CONFIG
from trainer.sweep.__main__ import main
from trainer.sweep.journal import Entry, Journal
from trainer.sweep.state import present_rows

SLURM = {"name": "slurm", "gpus_per_node": 0}


def test_the_last_line_on_a_point_holds_and_points_keep_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "base" / "sweep.jsonl")
    assert journal.entries() == {}
    for point, state, job in (("seed=0", "submitted", "7_0"), ("seed=1", "submitted", "7_1"), ("seed=0", "submitted", "9_0")):
        journal.append(Entry(point, f"/runs/{point}", [point], state, job))
    assert [(point, entry.job) for point, entry in journal.entries().items()] == [("seed=0", "9_0"), ("seed=1", "7_1")]
    assert json.loads(journal.path.read_text().splitlines()[0])["time"].endswith("Z")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "sweep.jsonl")
    journal.append(Entry("seed=0", "/runs/0", [], "done"))
    with journal.path.open("a") as file:
        file.write('{"point": "seed=1"\n')
    with pytest.raises(ArtifactError, match=r"sweep\.jsonl, line 2 is damaged .*delete that line"):
        journal.entries()


def _sweep(tmp_path: Path, jobs: dict[str, str | None], state: str = "submitted") -> Journal:
    sections: dict[str, Any] = {"launcher": SLURM} if any(jobs.values()) else {"evaluation": {"benchmark": "sandbox"}}
    journal = Journal(tmp_path / "base" / "sweep.jsonl")
    for point, job in jobs.items():
        run_dir = tmp_path / "base" / point
        run_dir.mkdir(parents=True)
        write_config(run_config(tmp_path, f"base/{point}", **sections), run_dir / CONFIG)
        journal.append(Entry(point, str(run_dir), [point], state, job))
    return journal


def test_states_come_from_the_runs_and_from_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = ("seed=0", "seed=1", "seed=2", "seed=3", "seed=4")
    journal = _sweep(tmp_path, {point: f"7_{index}" for index, point in enumerate(points)})
    finish(run_config(tmp_path, "base/seed=0", launcher=SLURM))
    (tmp_path / "base" / "seed=4" / CONFIG).unlink()

    def show(job: str) -> Job:
        if job == "7_2":
            return Job("CANCELLED", True, None)
        raise StageFailed("Invalid job id specified")

    monkeypatch.setattr(scheduler, "active_jobs", lambda: {"7_1": "RUNNING", "8": "PENDING"})
    monkeypatch.setattr(scheduler, "show_job", show)
    states = {row.point: row.state for row in present_rows(journal)}
    assert states == {"seed=0": "done", "seed=1": "running", "seed=2": "cancelled", "seed=3": "failed", "seed=4": "missing"}


def test_away_from_the_cluster_the_table_says_so_and_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _sweep(tmp_path, {"seed=0": "7_0"})
    finish(run_config(tmp_path, "base/seed=0", launcher=SLURM))
    monkeypatch.setenv("PATH", str(tmp_path))  # no squeue
    assert main(tmp_path / "base") == 0
    printed = capsys.readouterr().out
    assert "the queue is not known here: squeue is not on PATH" in printed
    assert "seed=0" in printed and "done" in printed


def test_the_table_shows_the_metrics_of_the_last_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _sweep(tmp_path, {"seed=0": None, "seed=1": None}, state="failed")
    finish(
        run_config(tmp_path, "base/seed=0", evaluation={"benchmark": "sandbox"}),
        {"base": {"capability": {"value": 0.1}}, "sft": {"capability": {"value": 0.625}}},
    )
    assert main(tmp_path / "base") == 0
    printed = capsys.readouterr().out
    assert "0.625" in printed and "0.100" not in printed
    assert "failed" in printed


def test_a_directory_without_a_journal_names_those_that_have_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _sweep(tmp_path, {"seed=0": None})
    assert main(tmp_path / "bass") == 2
    assert f"sweeps beside it: {tmp_path / 'base'}" in capsys.readouterr().err
