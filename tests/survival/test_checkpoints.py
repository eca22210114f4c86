"""A checkpoint is complete or it does not count."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.here import run_here
from trainer.checkpoints.start import prepare_start, read_start
from trainer.checkpoints.store import (
    LATEST,
    MANIFEST,
    WRITING,
    CheckpointManifest,
    all_checkpoints,
    commit,
    damage_in,
    facts_of_all,
    files_in,
    newest_complete,
    read_manifest,
    remove_all_but,
)
from trainer.checkpoints.unpickling import restricted
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.training import checkpoints_kept
from trainer.errors import ArtifactError


def write(directory: Path, step: int, world_size: int = 2, zero_stage: int | None = None) -> Path:
    """A complete checkpoint, through the steps that training takes."""
    written = directory / f"{WRITING}test" / f"checkpoint-{step}"
    (written / "global_step").mkdir(parents=True)
    (written / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    (written / "global_step" / "shard.pt").write_bytes(os.urandom(5000))
    files = facts_of_all(written, files_in(written))
    return commit(written, directory, CheckpointManifest(step, world_size, zero_stage, "abc", files))


def test_a_committed_checkpoint_is_whole_and_says_who_wrote_it(tmp_path: Path) -> None:
    path = write(tmp_path, 8)
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest.step, manifest.world_size, manifest.wandb_id) == (8, 2, "abc")
    assert set(manifest.files) == {"trainer_state.json", "global_step/shard.pt"}
    assert manifest.size == 5000 + len('{"global_step": 8}')
    assert damage_in(path) == []
    assert (tmp_path / LATEST).read_text() == "checkpoint-8\n"


def test_a_checkpoint_that_others_may_have_written_is_not_loaded(tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "sft" / "checkpoints", 4)
    assert prepare_start(tmp_path / "sft", None, 2).checkpoint == str(checkpoint)
    shard = checkpoint / "global_step" / "shard.pt"
    shard.chmod(0o664)
    with pytest.raises(ArtifactError, match=r"shard\.pt: may be written by others .*survival\.checkpoints_of=\["):
        prepare_start(tmp_path / "sft", None, 2)
    shard.chmod(0o644)
    checkpoint.parent.chmod(0o777)
    with pytest.raises(ArtifactError, match=r"checkpoints: may be written by others"):
        prepare_start(tmp_path / "sft", None, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_foreign_checkpoint_is_loaded_only_where_its_owner_is_named(tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "sft" / "checkpoints", 4)
    os.chown(checkpoint / "trainer_state.json", 12345, -1)
    with pytest.raises(ArtifactError, match=r"trainer_state\.json: belongs to user 12345.*checkpoints_of=\[user 12345\]"):
        prepare_start(tmp_path / "sft", None, 2, ["somebody else"])
    assert prepare_start(tmp_path / "sft", None, 2, ["user 12345"]).checkpoint == str(checkpoint)


@pytest.mark.parametrize(("limit", "kept"), [("2", 2), ("1", 1), ("0", None), ("null", None), ("-1", None)])
def test_no_limit_is_no_limit(limit: str, kept: int | None) -> None:
    """As in transformers; a run without one must not delete what it has just written."""
    config = load_config(composed(["experiment=sft", f"trainer.save_total_limit={limit}"]))
    assert checkpoints_kept(config, config.training[0]) == kept


def test_every_checkpoint_stays_where_there_is_no_limit(tmp_path: Path) -> None:
    few = ("evaluation=none", "data.prompts=40", "trainer.max_steps=3", "trainer.save_steps=1", "trainer.save_total_limit=null")
    run_dir = run_here(tmp_path, "experiment=sft", *few)
    assert [p.name for p in all_checkpoints(run_dir / "sft" / "checkpoints")] == [f"checkpoint-{n}" for n in (3, 2, 1)]


class _Runs:
    """What a hostile pickle is made of: unpickling it creates a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_a_shard_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    marker, shard = tmp_path / "it ran", tmp_path / "shard.pt"
    torch.save({"optimizer_state_dict": _Runs(marker)}, shard)
    with restricted(deepspeed=True), pytest.raises(pickle.UnpicklingError):
        torch.load(shard, weights_only=False)  # as DeepSpeed calls it
    assert not marker.exists()
    torch.load(shard, weights_only=False)
    assert marker.exists(), "the pickle was none that runs code"


def test_what_deepspeed_writes_is_read(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    state = {"zero_stage": ZeroStageEnum(2), "at": fragment_address(3, 4), "moments": torch.ones(2), "scaler": LossScaler(1)}
    torch.save(state, tmp_path / "shard.pt")
    with restricted(deepspeed=True):
        read = torch.load(tmp_path / "shard.pt", weights_only=False)
    assert (read["zero_stage"], read["at"], read["scaler"].loss_scale) == (2, fragment_address(3, 4), 1)


def _truncate(path: Path) -> None:
    os.truncate(path / "global_step" / "shard.pt", 4000)


def _flip(path: Path) -> None:
    shard = path / "global_step" / "shard.pt"
    content = bytearray(shard.read_bytes())
    content[2500] ^= 1
    shard.write_bytes(content)


def _remove(path: Path) -> None:
    (path / "global_step" / "shard.pt").unlink()


def _no_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def _half_manifest(path: Path) -> None:
    os.truncate(path / MANIFEST, 40)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncate, "global_step/shard.pt has 4000 bytes instead of 5000"),
        (_flip, "global_step/shard.pt has other content than was written"),
        (_remove, "global_step/shard.pt is missing"),
        (_no_manifest, "checkpoint.json is missing or unreadable"),
        (_half_manifest, "checkpoint.json is missing or unreadable"),
    ],
)
def test_a_damaged_checkpoint_is_named_set_aside_and_never_loaded(tmp_path: Path, damage: object, said: str) -> None:
    write(tmp_path, 8)
    damage(write(tmp_path, 12))  # type: ignore[operator]
    found, lines = newest_complete(tmp_path)
    assert found is not None and found.name == "checkpoint-8"
    assert len(lines) == 1
    assert lines[0].startswith(f"checkpoint-12 is damaged ({said})")
    assert newest_complete(tmp_path) == (found, [])
    assert (tmp_path / "damaged-checkpoint-12").exists()


def test_the_newest_is_by_step_and_not_by_name(tmp_path: Path) -> None:
    for step in (8, 100, 12):
        write(tmp_path, step)
    assert [p.name for p in all_checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-12", "checkpoint-8"]


def test_what_somebody_has_put_beside_them_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 4)
    for name in ("checkpoint-4-backup", "checkpoint-best", "damaged-checkpoint-9"):
        (tmp_path / name).mkdir()
    assert [path.name for path in all_checkpoints(tmp_path)] == ["checkpoint-4"]
    assert newest_complete(tmp_path)[0] == tmp_path / "checkpoint-4"


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        write(tmp_path, step)
    assert [p.name for p in remove_all_but(tmp_path, 2)] == ["checkpoint-4"]
    assert [p.name for p in all_checkpoints(tmp_path)] == ["checkpoint-12", "checkpoint-8"]


def test_the_same_step_written_again_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, 8)
    second = read_manifest(write(tmp_path, 8))
    assert read_manifest(tmp_path / "checkpoint-8") == second
    assert damage_in(tmp_path / "checkpoint-8") == []
    assert not list(tmp_path.rglob("replaced-*"))


def test_a_start_resumes_from_the_newest_and_clears_what_was_never_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "sft" / "checkpoints"
    write(directory, 8)
    (directory / f"{WRITING}dead" / "checkpoint-12").mkdir(parents=True)
    start = prepare_start(tmp_path / "sft", None, 2)
    assert start.checkpoint == str(directory / "checkpoint-8")
    assert not start.universal
    assert read_start(tmp_path / "sft") == start
    printed = capsys.readouterr().out
    assert "sft: checkpoint-12 was never finished: passed over" in printed
    assert "sft: resuming from step 8" in printed
    assert not (directory / f"{WRITING}dead").exists()


def test_every_start_is_another_attempt(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    first, second = (prepare_start(tmp_path / "sft", 2, 2) for _ in range(2))
    assert first.attempt != second.attempt
    assert first.checkpoint is None
