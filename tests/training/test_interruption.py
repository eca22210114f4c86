"""A rank that dies ends the others at once, with one reason; the same command then carries on to the same result."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import keel, losses, start_keel
from tests.warm.client import warm_keel

ARGUMENTS = (
    "experiment=sft",
    "evaluation=none",
    "launcher.processes=2",
    "deepspeed=zero2",
    "data.prompts=150",
    "trainer.max_steps=16",
    "trainer.logging_steps=1",
    "trainer.save_steps=4",
    "tracking.mode=disabled",
)


def _ranks(parent: int) -> dict[int, psutil.Process]:
    """rank -> its process, of the stage that is running."""
    found = {}
    for child in psutil.Process(parent).children(recursive=True):
        try:
            environment, command = child.environ(), child.cmdline()
        except psutil.Error:
            continue
        if "trainer.worker" in command and command[-1] == "sft":
            found[int(environment["RANK"])] = child
    return found


def _wait_for(path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("undisturbed")
    warm_keel(*ARGUMENTS, cwd=cwd)
    return cwd / "runs" / "sft"


def test_killing_a_rank_mid_step_ends_the_run_and_resuming_equals_undisturbed(undisturbed: Path, tmp_path: Path) -> None:
    process = start_keel(*ARGUMENTS, cwd=tmp_path)
    _wait_for(tmp_path / "runs" / "sft" / "sft" / "checkpoints" / "checkpoint-8", 180)
    ranks = _ranks(process.pid)
    assert set(ranks) == {0, 1}
    killed = time.monotonic()
    os.kill(ranks[1].pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed < 20
    assert process.returncode == 1
    assert "stage sft: rank 1 of 2 was killed by SIGKILL" in output
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks.values())
    interrupted = losses(tmp_path / "runs" / "sft" / "sft")
    assert len(interrupted) < 16, "the kill came too late to test anything"

    output = keel(*ARGUMENTS, cwd=tmp_path)
    assert "sft: resuming from step" in output
    resumed = losses(tmp_path / "runs" / "sft" / "sft")
    assert resumed == pytest.approx(losses(undisturbed / "sft"), abs=1e-6)
    model = "sft/model/model.safetensors"
    assert (tmp_path / "runs" / "sft" / model).read_bytes() == (undisturbed / model).read_bytes()


def test_an_error_in_one_rank_is_shown_once_with_its_rank(tmp_path: Path) -> None:
    """A checkpoint directory that rank 0 cannot write: a real failure inside training."""
    blocked = tmp_path / "runs" / "sft" / "sft"
    warm_keel(*ARGUMENTS, "trainer.max_steps=1", cwd=tmp_path)
    for path in sorted(blocked.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink() if path.name != "ticket.json" else None
    (blocked / "checkpoints").write_text("a file where a directory should be")
    output = warm_keel(*ARGUMENTS, "trainer.max_steps=1", cwd=tmp_path, code=1)
    assert "stage sft: rank 0 of 2:" in output or "stage sft: rank 1 of 2:" in output
    assert "checkpoints" in output
