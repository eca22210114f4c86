"""What the local launcher tells its ranks, and which of several errors it takes for the cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launchers import local
from trainer.errors import ConfigError, StageFailed


def test_a_rank_knows_its_place_and_the_user_keeps_the_last_word_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RANK", "99")
    environment = local.rank_environment(1, 4, 12345)
    expected = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "12345"}
    assert {key: environment[key] for key in expected} == expected
    assert environment["OMP_NUM_THREADS"] == "7"


class Ended:
    """A process that has ended; stands for a rank."""

    def __init__(self, returncode: int):
        self.returncode = returncode


def _written(directory: Path, rank: int, time: float, kind: str, message: str, secondary: bool = False) -> None:
    record = {"rank": rank, "time": time, "type": kind, "message": message, "secondary": secondary, "traceback": ""}
    (directory / f"rank{rank}.json").write_text(json.dumps(record))


def test_the_cause_is_the_first_error_that_is_not_a_lost_peer(tmp_path: Path) -> None:
    _written(tmp_path, 0, 1.0, "RuntimeError", "Connection closed by peer", secondary=True)
    _written(tmp_path, 2, 3.0, "ZeroDivisionError", "late")
    _written(tmp_path, 1, 2.0, "ZeroDivisionError", "division by zero")
    ranks = [Ended(1), Ended(1), Ended(1)]
    reason = local._reason("sft", [0, 1, 2], ranks, tmp_path, tmp_path)  # type: ignore[arg-type]
    assert isinstance(reason, StageFailed)
    assert str(reason) == "stage sft: rank 1 of 3: ZeroDivisionError: division by zero"


def test_a_killed_rank_is_the_cause_whatever_the_others_say(tmp_path: Path) -> None:
    _written(tmp_path, 0, 1.0, "RuntimeError", "Connection closed by peer", secondary=True)
    reason = local._reason("dpo", [0, 1], [Ended(1), Ended(-9)], tmp_path, tmp_path)  # type: ignore[arg-type, list-item]
    assert str(reason).startswith("stage dpo: rank 1 of 2 was killed by SIGKILL")


def test_a_users_mistake_stays_a_users_mistake(tmp_path: Path) -> None:
    """So that the exit status is 2 and nobody tries the same again."""
    _written(tmp_path, 0, 1.0, "ConfigError", "model.tokenizer: no chat template")
    reason = local._reason("data", [0], [Ended(2)], tmp_path, tmp_path)  # type: ignore[arg-type, list-item]
    assert isinstance(reason, ConfigError)
    assert reason.exit_code == 2
