"""Offline pieces reach a server through the real `wandb sync`, in order, once; the server is a small one of ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.fake_wandb import FakeWandb, fake_wandb
from trainer.tracking.sync import main, pieces_of, still_open

_WRITE = """
import sys, wandb
run = wandb.init(mode="offline", dir=sys.argv[1], id=sys.argv[2], project="keel", settings=wandb.Settings(silent=True))
for step in map(int, sys.argv[3:]):
    run.log({"loss": float(step)}, step=step)
run.finish()
"""


def write_piece(run_dir: Path, identity: str, *steps: int) -> None:
    """One start of a stage that logs these steps, and a moment in time of its own: pieces are named by the second."""
    before = set(pieces_of(run_dir))
    subprocess.run([sys.executable, "-c", _WRITE, str(run_dir), identity, *map(str, steps)], check=True, timeout=60)
    new = next(piece for piece in pieces_of(run_dir) if piece not in before).directory
    new.rename(new.with_name(f"offline-run-20260101_00000{len(before)}-{identity}"))


def stage(run_dir: Path, name: str, identity: str, finished: bool) -> None:
    (run_dir / name).mkdir(parents=True)
    (run_dir / name / "wandb_id").write_text(identity)
    if finished:
        (run_dir / name / "manifest.json").write_text("{}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeWandb]:
    with fake_wandb() as fake:
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("trainer.tracking.sync.server_url", lambda: fake.url)
        yield fake


@pytest.mark.slow
def test_the_pieces_of_an_interrupted_stage_become_one_history(
    server: FakeWandb, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A piece alone would replace the one before it; and a second start uploads nothing twice."""
    run_dir = tmp_path / "first"
    stage(run_dir, "sft", "aaaaaaaaaaaa", finished=True)
    stage(run_dir, "dpo", "bbbbbbbbbbbb", finished=False)
    write_piece(run_dir, "aaaaaaaaaaaa", 1, 2, 3)
    write_piece(run_dir, "aaaaaaaaaaaa", 4, 5)
    write_piece(run_dir, "bbbbbbbbbbbb", 1, 2)

    assert main([str(run_dir)]) == 1
    assert [(row["_step"], row["loss"]) for row in server.history["aaaaaaaaaaaa"]] == [(n, n) for n in (1, 2, 3, 4, 5)]
    assert "bbbbbbbbbbbb" not in server.history
    output = capfd.readouterr().out
    assert output.count(": uploaded\n") == 2
    assert "dpo has not finished" in output and "--unfinished" in output

    assert main([str(run_dir), "--unfinished"]) == 0
    assert [row["loss"] for row in server.history["bbbbbbbbbbbb"]] == [1, 2]
    output = capfd.readouterr().out
    assert output.count(": uploaded before\n") == 2 and output.count(": uploaded\n") == 1
    assert [row["loss"] for row in server.history["aaaaaaaaaaaa"]] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_refusal_is_seen_although_wandb_exits_with_0(
    server: FakeWandb, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "first"
    stage(run_dir, "sft", "aaaaaaaaaaaa", finished=True)
    write_piece(run_dir, "aaaaaaaaaaaa", 1)
    write_piece(run_dir, "aaaaaaaaaaaa", 2)
    server.refuses = True
    assert main([str(run_dir)]) == 1
    output = capfd.readouterr().out
    assert "NOT uploaded" in output and "waits for the piece before it" in output
    server.refuses = False
    assert main([str(run_dir)]) == 0
    assert [row["loss"] for row in server.history["aaaaaaaaaaaa"]] == [1, 2]


def test_only_the_last_piece_of_an_unfinished_stage_is_held_back(tmp_path: Path) -> None:
    stage(tmp_path, "sft", "aaaaaaaaaaaa", finished=False)
    for second in (1, 2):
        (tmp_path / "wandb" / f"offline-run-20260101_00000{second}-aaaaaaaaaaaa").mkdir(parents=True)
    pieces = pieces_of(tmp_path)
    assert [piece.stage for piece in pieces] == ["sft", "sft"]
    assert still_open(tmp_path, pieces) == [pieces[1]]


def test_no_key_no_network_and_no_such_run_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr("trainer.tracking.sync.server_url", lambda: url)
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main([str(tmp_path)]) == 2
    assert f"wandb login --host {url}" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert main([str(tmp_path)]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no such run directory" in capsys.readouterr().err
