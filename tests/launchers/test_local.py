"""What the local launcher tells its ranks, and which of several errors it takes for the cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launchers import processes
from launchers.outcome import reason_of
from trainer.errors import ConfigError, Interrupted, StageFailed


def test_a_rank_knows_its_place_and_the_user_keeps_the_last_word_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RANK", "99")
    environment = processes.rank_environment(1, processes.World(local_size=4, size=4, port=12345))
    expected = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "12345"}
    assert {key: environment[key] for key in expected} == expected
    assert environment["OMP_NUM_THREADS"] == "7"


def _written(run_dir: Path, rank: int, time: float, kind: str, message: str, secondary: bool = False, **more: object) -> None:
    record = {"rank": rank, "time": time, "type": kind, "message": message, "secondary": secondary, "traceback": "", **more}
    path = run_dir / "sft" / "errors" / f"rank{rank}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def test_the_cause_is_the_first_error_that_is_not_a_lost_peer(tmp_path: Path) -> None:
    _written(tmp_path, 0, 1.0, "RuntimeError", "Connection closed by peer", secondary=True)
    _written(tmp_path, 2, 3.0, "ZeroDivisionError", "late")
    _written(tmp_path, 1, 2.0, "ZeroDivisionError", "division by zero")
    reason = reason_of(tmp_path, "sft", 3, {0: 1, 1: 1, 2: 1})
    assert isinstance(reason, StageFailed)
    assert str(reason) == "stage sft: rank 1 of 3: ZeroDivisionError: division by zero"


def test_last_words_that_a_full_disk_cut_short_hide_no_others(tmp_path: Path) -> None:
    _written(tmp_path, 1, 2.0, "ZeroDivisionError", "division by zero")
    (tmp_path / "sft" / "errors" / "rank0.json").write_text('{"rank"')
    assert "rank 1 of 2: ZeroDivisionError" in str(reason_of(tmp_path, "sft", 2, {0: 1, 1: 1}))


def test_a_killed_rank_is_the_cause_whatever_the_others_say(tmp_path: Path) -> None:
    _written(tmp_path, 0, 1.0, "RuntimeError", "Connection closed by peer", secondary=True)
    reason = reason_of(tmp_path, "sft", 2, {0: 1, 1: -9})
    assert str(reason).startswith("stage sft: rank 1 of 2 was killed by SIGKILL")


def test_a_users_mistake_stays_a_users_mistake(tmp_path: Path) -> None:
    """So that the exit status is 2 and nobody tries the same again."""
    _written(tmp_path, 0, 1.0, "ConfigError", "model.tokenizer: no chat template")
    reason = reason_of(tmp_path, "sft", 1, {0: 2})
    assert isinstance(reason, ConfigError)
    assert reason.exit_code == 2


def test_ranks_that_were_told_to_stop_are_not_failures(tmp_path: Path) -> None:
    assert isinstance(reason_of(tmp_path, "sft", 2, {0: 75, 1: 75}), Interrupted)
    _written(tmp_path, 0, 1.0, "Interrupted", "stopped after step 4", secondary=True)
    _written(tmp_path, 1, 1.1, "RuntimeError", "Connection closed by peer", secondary=True)
    reason = reason_of(tmp_path, "sft", 2, {0: 75, 1: 1})
    assert isinstance(reason, Interrupted)
    assert reason.exit_code == 75


def test_an_error_that_stopped_the_others_is_not_hidden_by_their_stopping(tmp_path: Path) -> None:
    _written(tmp_path, 0, 1.0, "Interrupted", "stopped after step 4", secondary=True)
    _written(tmp_path, 1, 2.0, "ZeroDivisionError", "division by zero")
    assert isinstance(reason_of(tmp_path, "sft", 2, {1: 1, 0: 75}), StageFailed)


def _hung(run_dir: Path, rank: int, in_collective: bool, stack: str) -> None:
    record = {"seconds": 600.0, "in_collective": in_collective, "traceback": stack}
    _written(run_dir, rank, 1.0, "Hung", "no step", **record)


def test_of_hung_ranks_the_one_outside_a_collective_is_named(tmp_path: Path) -> None:
    _hung(tmp_path, 0, True, "in all_reduce")
    _hung(tmp_path, 1, False, "in read_from_disk")
    text = str(reason_of(tmp_path, "sft", 2, {0: 1, 1: 1}))
    assert "no step for 600 s" in text
    assert "rank 1 stood outside every collective:\nin read_from_disk" in text
    assert "in all_reduce" not in text


def test_a_rank_that_cannot_report_is_named(tmp_path: Path) -> None:
    _hung(tmp_path, 0, True, "in all_reduce")
    text = str(reason_of(tmp_path, "sft", 2, {0: 1}))
    assert "did not answer at all: rank 1" in text
    assert "in all_reduce" in text
