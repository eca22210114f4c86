"""One start at a time in a run's directory, and a dead one holds up nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import ConfigError
from trainer.pipeline import lock
from trainer.pipeline.lock import DEAD_AFTER, LOCK, Holder, exclusive

_HOLD = """
import sys, time
from pathlib import Path
from trainer.errors import ConfigError
from trainer.pipeline.lock import exclusive
try:
    with exclusive(Path(sys.argv[1]), None):
        print("mine", flush=True)
        sys.stdin.readline()
except ConfigError as error:
    print(error, flush=True)
"""


def _start(run_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_starts_at_the_same_time_one_has_the_run_and_the_others_are_told_who(tmp_path: Path) -> None:
    starts = [_start(tmp_path / "run") for _ in range(3)]
    said = [_said(process) for process in starts]
    assert said.count("mine") == 1
    (holder,) = (process for process, line in zip(starts, said, strict=True) if line == "mine")
    refused = [line for line in said if line != "mine"]
    assert all("is in use" in line and f"process {holder.pid}" in line for line in refused), refused
    for process in starts:
        process.communicate("\n")
    with exclusive(tmp_path / "run", None), exclusive(tmp_path / "run", None):  # inside, the same process has it already
        again = _start(tmp_path / "run")
        assert _said(again).startswith("run.name: ")
        again.communicate()


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "waiting for its parent"])
def test_a_holder_that_was_killed_holds_up_nobody(reaped: bool, tmp_path: Path) -> None:
    holder = _start(tmp_path)
    assert _said(holder) == "mine"
    os.kill(holder.pid, signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with exclusive(tmp_path, None):
        assert sorted(path.name for path in (tmp_path / LOCK).iterdir()) == ["1", "2"]
    holder.communicate()


def test_another_process_with_the_number_of_the_dead_one_is_not_it(tmp_path: Path) -> None:
    _held_by(tmp_path, replace(lock._me(None), began="1"))
    with exclusive(tmp_path, None):
        pass


def _held_by(run_dir: Path, holder: Holder, silent: float = 0.0) -> Path:
    path = run_dir / LOCK / "1"
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(holder)))
    if silent:
        then = path.stat().st_mtime - silent
        os.utime(path, (then, then))
    return path


_ELSEWHERE = Holder("ada", "node7", "node7 boot", 4711, "1", "python -m trainer experiment=sft", "2026-01-01 00:00:00")


def test_on_another_machine_signs_of_life_decide(tmp_path: Path) -> None:
    path = _held_by(tmp_path, _ELSEWHERE, DEAD_AFTER / 2)
    with pytest.raises(ConfigError, match=r"ada has had it since .*, on node7 \(process 4711: python -m trainer"):
        exclusive(tmp_path, None).__enter__()
    then = path.stat().st_mtime - DEAD_AFTER
    os.utime(path, (then, then))
    with exclusive(tmp_path, None):
        pass


class _Queue:
    """What a lock asks of a scheduler."""

    def __init__(self, job: str | None = None, restarts: int = 0, over: Sequence[str] = ()):
        self.job, self.restarts, self.ended = job, restarts, over

    def here(self) -> str | None:
        return self.job

    def restarted(self) -> int:
        return self.restarts

    def over(self, job: str) -> bool | None:
        return job in self.ended


@pytest.mark.parametrize(
    ("queue", "silent", "free"),
    [
        (_Queue(over=["7"]), 0.0, True),
        (_Queue(), 10 * DEAD_AFTER, False),  # suspended, or waiting to start again
        (_Queue(job="7", restarts=1), 0.0, True),  # the same job, started again while what was cut off still lives
        (_Queue(job="8"), 0.0, False),
        (None, 10 * DEAD_AFTER, True),
    ],
)
def test_of_a_job_the_scheduler_knows_more(queue: Any, silent: float, free: bool, tmp_path: Path) -> None:
    _held_by(tmp_path, replace(_ELSEWHERE, job="7"), silent)
    if free:
        with exclusive(tmp_path, queue):
            pass
    else:
        with pytest.raises(ConfigError, match="process 4711, job 7: python"):
            exclusive(tmp_path, queue).__enter__()


def test_a_job_that_begins_while_its_submission_still_has_the_run_waits(tmp_path: Path) -> None:
    submission = _start(tmp_path)
    assert _said(submission) == "mine"
    threading.Timer(0.5, lambda: submission.communicate("\n")).start()
    with exclusive(tmp_path, None, patience=60):
        assert submission.wait() == 0


def test_where_there_are_no_links_the_name_itself_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with exclusive(tmp_path, None):
        other = _start(tmp_path)
        assert _said(other).startswith("run.name: ")
        other.communicate()
    assert not lock._create(tmp_path / LOCK / "1", lock._me(None))


@pytest.mark.parametrize("cleared", [False, True], ids=["its number is there", "later ones have cleared it away"])
def test_one_that_was_taken_over_is_told_to_stop(cleared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    told: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        with exclusive(tmp_path, None):
            (tmp_path / LOCK / "3").write_text("{}")
            if cleared:
                (tmp_path / LOCK / "1").unlink()
            while not told:
                signal.sigtimedwait([], 0.01)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert told == [signal.SIGTERM]


def test_a_directory_that_goes_away_meanwhile_is_no_second_error(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with exclusive(run, None):
        (run / LOCK / "1").unlink()
        (run / LOCK).rmdir()
        run.rmdir()
