"""Damaged checkpoints, a full disk, bad batches and hung ranks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import losses
from tests.drills.harness import SAVE_EVERY, STEPS, TABLE, Row, moment, newest_step, none_left, start
from trainer.checkpoints.store import all_checkpoints, read_manifest

PLAIN = ("deepspeed=zero2", "evaluation=none", "tracking.mode=disabled")


@pytest.fixture(scope="module")
def undisturbed(undisturbed_zero2: Path) -> Path:
    return undisturbed_zero2 / "sft"


def test_a_truncated_shard_is_named_and_passed_over(tmp_path: Path, undisturbed: Path) -> None:
    assert start(tmp_path, *PLAIN, **moment("mid_step", "kill", 13)).code == 1
    stage_dir = tmp_path / "runs" / "run" / "sft"
    newest = all_checkpoints(stage_dir / "checkpoints")[0]
    assert newest.name == "checkpoint-12"
    shard = max(newest.rglob("*optim_states.pt"), key=lambda p: p.stat().st_size)
    os.truncate(shard, shard.stat().st_size // 2)

    ended = start(tmp_path, *PLAIN)
    assert ended.code == 0, ended.output[-3000:]
    assert f"checkpoint-12 is damaged ({shard.relative_to(newest)} has" in ended.output
    assert ended.resumed_from == 8
    assert losses(stage_dir) == pytest.approx(losses(undisturbed), abs=1e-6)
    TABLE.append(Row("truncated shard", "zero2", "named; resumed from step 8, losses equal"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, to be filled."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(place: Path, leave: int) -> Path:
    """Fill a file system but for `leave` bytes."""
    filler = place / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return filler


@pytest.mark.slow
def test_a_full_disk_ends_the_run_before_a_checkpoint_is_half_written(small_disk: Path, undisturbed: Path) -> None:
    assert start(small_disk, *PLAIN, **moment("mid_step", "kill", 6)).code == 1
    stage_dir = small_disk / "runs" / "run" / "sft"
    manifest = read_manifest(all_checkpoints(stage_dir / "checkpoints")[0])
    assert manifest is not None and manifest.step == 4
    filler = _fill(small_disk, leave=manifest.size // 2)

    ended = start(small_disk, *PLAIN)
    assert ended.code == 1
    assert "checkpoint-8 needs about" in ended.output and "newest complete checkpoint: checkpoint-4" in ended.output
    assert none_left(small_disk)
    assert newest_step(stage_dir) == 4

    filler.unlink()
    ended = start(small_disk, *PLAIN)
    assert ended.code == 0, ended.output[-3000:]
    assert ended.resumed_from == 4
    assert losses(stage_dir) == pytest.approx(losses(undisturbed), abs=1e-6)
    TABLE.append(Row("disk full while saving", "zero2", "said so on all ranks; step 4 kept, losses equal"))


@pytest.mark.slow
def test_a_disk_that_fills_during_the_write_leaves_the_last_checkpoint(small_disk: Path, undisturbed: Path) -> None:
    """Somebody else takes the space between the check and the write."""
    ended = start(small_disk, *PLAIN, **moment("save_begins", "fill"))
    assert ended.code == 1, ended.output[-3000:]
    assert none_left(small_disk)
    stage_dir = small_disk / "runs" / "run" / "sft"
    assert newest_step(stage_dir) == 0
    (small_disk / "filler").unlink()
    ended = start(small_disk, *PLAIN)
    assert ended.code == 0, ended.output[-3000:]
    assert losses(stage_dir) == pytest.approx(losses(undisturbed), abs=1e-6)
    TABLE.append(Row("disk filled during the save", "zero2", "half a checkpoint never counted, losses equal"))


@pytest.mark.parametrize("zero", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_a_bad_batch_is_skipped_by_all_ranks(tmp_path: Path, zero: str) -> None:
    ended = start(tmp_path, f"deepspeed={zero}", *PLAIN[1:], "survival.bad_loss=skip", **moment("bad_loss", "nan", 5))
    assert ended.code == 0, ended.output[-3000:]
    assert "the loss of step 6 is nan on rank 1" in ended.output and "; skipped" in ended.output
    stage_dir = tmp_path / "runs" / "run" / "sft"
    found = losses(stage_dir)
    assert len(found) == STEPS
    assert all(loss == loss for loss in found), "the bad batch reached the weights"
    (batch,) = stage_dir.glob("bad_batches/*.json")
    assert batch.name == "step6-rank1.json"
    assert json.loads(batch.read_text())["texts"]
    TABLE.append(Row("a loss that is not a number, skip", zero, "batch saved and skipped by all ranks"))


@pytest.mark.slow
def test_a_bad_batch_stops_all_ranks_by_default(tmp_path: Path) -> None:
    ended = start(tmp_path, *PLAIN, **moment("bad_loss", "nan", 5))
    assert ended.code == 1
    assert "the loss of step 6 is nan on rank 1" in ended.output and "survival.bad_loss=skip" in ended.output
    assert newest_step(tmp_path / "runs" / "run" / "sft") == SAVE_EVERY
    TABLE.append(Row("a loss that is not a number, stop", "zero2", "batch saved; step 4 kept"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "said"),
    [("stop", "did not answer at all: rank 1"), ("sleep", "rank 1 stood outside every collective:")],
)
def test_a_hung_rank_is_named_with_its_stack(tmp_path: Path, act: str, said: str) -> None:
    ended = start(tmp_path, *PLAIN, "survival.hang_timeout=5", "launcher.grace=1", **moment("mid_step", act, 5))
    assert ended.code == 1, ended.output[-3000:]
    assert "no step for" in ended.output and said in ended.output
    assert ("inject.py" in ended.output) == (act == "sleep"), "the stack of the rank that held the others up"
    assert none_left(tmp_path)
    TABLE.append(
        Row(f"hung rank ({act.replace('stop', 'frozen').replace('sleep', 'busy')})", "zero2", "named within hang_timeout")
    )
