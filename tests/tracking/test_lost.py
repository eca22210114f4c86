"""Whatever becomes of W&B, a stage goes on and its own record is whole."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tracking.fake_wandb import fake_wandb
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.errors import Interrupted
from trainer.pipeline.chain import stage_named
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import METRICS_FILE
from trainer.pipeline.run import claim_directory
from trainer.stopping import Terminated
from trainer.tracking import tracker as tracking
from trainer.tracking.remote import Remote
from trainer.tracking.sync import main
from trainer.tracking.tracker import LOST, Tracker


def _context(tmp_path: Path, mode: str = "offline") -> StageContext:
    config = load_config(composed(["experiment=sft", f"paths.runs={tmp_path}", "run.name=r", f"tracking.mode={mode}"]))
    context = StageContext(config, claim_directory(config), stage_named(config, "sft"), 0, 1)
    context.stage_dir.mkdir()
    return context


def _steps(context: StageContext) -> list[int]:
    return [json.loads(line)["step"] for line in (context.stage_dir / METRICS_FILE).read_text().splitlines()]


class _Run:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.summary: dict[str, Any] = {}

    def log(self, row: dict[str, float], step: int) -> None:
        self.done.append(step)

    def mark_preempting(self) -> None:
        self.done.append("preempting")

    def finish(self, exit_code: int) -> None:
        self.done.append(exit_code)


@pytest.mark.parametrize(
    ("error", "end"),
    [(None, [0]), (ValueError("x"), [1]), (Interrupted("x"), ["preempting", 1]), (Terminated("SIGTERM"), ["preempting", 1])],
)
def test_how_a_stage_ended_is_told_apart(
    error: BaseException | None, end: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = _Run(), _context(tmp_path)
    monkeypatch.setattr(tracking, "_begin", lambda *_: run)
    try:
        with Tracker.open(context) as opened:
            opened.log({"loss": 1.0}, 1)
            if error is not None:
                raise error
    except (ValueError, Interrupted, Terminated) as raised:
        assert raised is error
    assert run.done == [1, *end]
    assert not (context.stage_dir / LOST).exists()


def _raises(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no route to host")


def _hangs(*_: Any, **__: Any) -> Any:
    threading.Event().wait()


class _HangsAtTheEnd(_Run):
    finish = _hangs


class _RaisesMidway(_Run):
    log = _raises


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        (_raises, "RuntimeError: no route to host"),
        (_hangs, "did not finish in 0 s"),
        (lambda *_: _HangsAtTheEnd(), "did not finish in 0 s"),
        (lambda *_: _RaisesMidway(), "RuntimeError: no route to host"),
    ],
    ids=["fails to begin", "hangs at the beginning", "hangs at the end", "fails midway"],
)
def test_wandb_is_lost_and_the_record_is_whole(
    begin: Any, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = _context(tmp_path)
    monkeypatch.setattr(tracking, "_begin", begin)
    monkeypatch.setitem(tracking._PATIENCE, "finished", 0.2)
    with Tracker.open(context) as opened:
        for step in range(5):
            opened.log({"loss": 1.0}, step)
        opened.summary({"asr": 0.5})
    assert _steps(context) == list(range(5))
    assert why in (context.stage_dir / LOST).read_text()
    assert capsys.readouterr().err.count("tracking: W&B is lost") == 1


def test_a_wandb_that_takes_nothing_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.tracking.remote._WAITING", 3)
    remote = Remote(_hangs)
    for _ in range(10):
        remote.do(lambda _: None)
    assert remote.lost is not None and remote._work.qsize() == 3


def test_what_a_full_disk_refused_is_written_when_there_is_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = _context(tmp_path, "disabled")
    path = context.stage_dir / METRICS_FILE
    path.symlink_to("/dev/full")
    with Tracker.open(context) as opened:
        opened.log({"loss": 1.0}, 1)
        opened.log({"loss": 1.0}, 2)
        path.unlink()
    assert _steps(context) == [1, 2]
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_without_a_home_wandb_keeps_its_files_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.delenv(f"WANDB_{kind}_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    tracking._give_a_home(tmp_path)
    assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "wandb" / "cache")


@pytest.mark.slow
def test_sync_writes_anew_what_a_killed_wandb_has_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real wandb, whose process is killed midway."""
    context = _context(tmp_path)
    with Tracker.open(context) as opened:
        for step in range(1, 4):
            opened.log({"loss": float(step)}, step)
        begun = threading.Event()
        opened._do(lambda _: begun.set())
        assert begun.wait(60)
        for process in psutil.Process().children():
            if process.name().startswith("wandb-core"):
                process.kill()
        for step in range(3, 6):
            opened.log({"loss": 10.0 * step}, step)
        opened.summary({"asr": 0.5})
    assert (context.stage_dir / LOST).exists()
    (context.stage_dir / "manifest.json").write_text("{}")
    with fake_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("trainer.tracking.sync.server_url", lambda: server.url)
        assert main([str(context.run_dir)]) == 0
        (history,) = server.history.values()
        assert [(row["_step"], row["loss"]) for row in history] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]
        assert not (context.stage_dir / LOST).exists()
        assert main([str(context.run_dir)]) == 0
        assert len(*server.history.values()) == 5, "nothing twice"
