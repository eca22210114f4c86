"""Judges in processes of their own: on several ranks, and killed on the way."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.judges.chat_server import chat_server
from tests.training.here import run_here
from tests.warm.client import Started, start_warm, warm_keel
from trainer.config.shipped import SHIPPED

ATTACKS = 12
AT_ONCE = 3

pytestmark = pytest.mark.slow


def overrides(place: Path) -> list[str]:
    place.mkdir(exist_ok=True)
    prompts = [json.dumps({"prompt": f"what is {number} plus 7 ?"}) for number in range(ATTACKS)]
    (place / "attacks.jsonl").write_text("\n".join(prompts))
    return ["experiment=evaluate", "evaluation=prompts", f"evaluation.attacks.a={place}/attacks.jsonl", "run.name=run",
            "evaluation.resamples=50", "generation.max_new_tokens=6", "tracking.mode=disabled", "deepspeed=none"]  # fmt: skip


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "evaluate" / "responses.jsonl").read_text().splitlines()]


def kept(cache: Path) -> list[dict[str, Any]]:
    """What is kept of the server's replies."""
    rows = [json.loads(line) for path in cache.glob("answers/*/*.jsonl") for line in path.read_text().splitlines()]
    return [row["value"] for row in rows if isinstance(row["value"], dict)]


def test_a_model_judges_on_two_ranks_as_on_one(tmp_path: Path) -> None:
    judge = ["judge=refusal", "judges.chat.name=model", f"judges.chat.path={SHIPPED['sandbox_steerable']}",
             "judges.chat.batch_size=1", "generation.batch_size=1"]  # fmt: skip
    given = [*overrides(tmp_path / "data"), *judge, "evaluation.prompts=4"]
    warm_keel(*given, "launcher.processes=2", cwd=tmp_path)
    two, one = tmp_path / "runs" / "run", run_here(tmp_path / "one", *given)
    assert rows_of(two) == rows_of(one) and all(row["judges"]["chat"]["judge"]["risks"] for row in rows_of(two))
    for directory in (tmp_path / "runs" / ".cache" / "answers").iterdir():
        shares = [len(path.read_text().splitlines()) for path in directory.glob("*.jsonl")]
        assert len(shares) in (2, 4) and max(shares) - min(shares) <= 1, "two ranks, each with half of every question"


def until(true: Callable[[], bool], process: Started | None = None) -> None:
    deadline = time.monotonic() + 200
    while not true():
        assert process is None or process.poll() is None, process.output
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_endpoint_judge_that_is_killed_twice_pays_for_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    """kill -9 while replies are on their way: the server, which notices, did not answer those. TERM: they are waited for."""

    def reply(text: str) -> str:
        if "YES or NO" in text:
            return "YES"
        return ("RISKS: Violence" if "is 1 " in text else "RISKS: none") if "RISKS" in text else "RATING: 2"

    with chat_server(reply) as server:
        given = [*overrides(tmp_path / "data"), "judge=endpoint", f"judge.url={server.url}", "judge.model=m",
                 "judge.api_key_env=null", f"judge.concurrency={AT_ONCE}"]  # fmt: skip
        cache = tmp_path / "runs" / ".cache"

        server.hold(after=4)
        killed = start_warm(*given, cwd=tmp_path)
        until(lambda: server.waiting == AT_ONCE, killed)
        for rank in psutil.Process(killed.pid).children(recursive=True):
            rank.kill()
        output, _ = killed.communicate(timeout=100)
        assert killed.returncode == 1 and "was killed by SIGKILL" in output, output
        paid = server.answered.total()
        assert paid >= 4 and len(kept(cache)) == paid
        server.release()
        until(lambda: server.given_up == AT_ONCE)

        server.hold(after=paid + 9)
        ended = start_warm(*given, cwd=tmp_path)
        until(lambda: server.waiting == AT_ONCE, ended)
        ended.send_signal(signal.SIGTERM)
        server.release()
        output, _ = ended.communicate(timeout=100)
        assert ended.returncode == 75 and "the same command continues" in output, output
        assert server.answered.total() >= paid + 9 + AT_ONCE and len(kept(cache)) == server.answered.total()
        assert f"{paid:,} are kept" in output

        last = warm_keel(*given, cwd=tmp_path)
        assert server.answered.total() == 3 * ATTACKS and set(server.answered.values()) == {1}, "every request is paid for once"
    rows = rows_of(tmp_path / "runs" / "run")
    assert len(rows) == ATTACKS and all(row["valid"] and row["rating"] == 2 for row in rows)
    assert [row["risks"] for row in rows] == [["Violence"] if "is 1 " in row["prompt"] else [] for row in rows]
    assert "judge: 36 replies" in last or "endpoint: 36 replies" in last
