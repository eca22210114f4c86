"""What counts as unchanged: content, all of it, or a commit of the hub."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from trainer import record
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.stage import Stage
from trainer.errors import DataError
from trainer.models.fingerprint import base_fingerprint
from trainer.pipeline import hub
from trainer.pipeline.chain import stage_named
from trainer.pipeline.work import inputs_of
from trainer.record import fingerprint_path, hash_file

MIB = 1 << 20


@pytest.fixture(autouse=True)
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of hashes of this test alone, in which a file counts at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(record, "_SETTLED", 0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read, in order."""
    read: list[Path] = []
    real = record._sha256
    monkeypatch.setattr(record, "_sha256", lambda path: (read.append(path), real(path))[1])
    return read


def write_at(path: Path, place: int, value: bytes) -> None:
    """In place, with the times that it had: as a careless copy does. After the clock of the file system has gone on."""
    time.sleep(0.02)
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        file.write(value)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize("place", [2 * MIB, 70 * MIB - 1])
def test_one_byte_anywhere_in_a_large_file_counts(tmp_path: Path, place: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.touch()
    os.truncate(path, 70 * MIB)
    before = fingerprint_path(path)
    assert fingerprint_path(path) == before
    write_at(path, place, b"x")
    assert fingerprint_path(path) != before


def test_a_directory_is_all_that_lies_below_it(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for directory in (data / "train" / "deep", data / ".git", elsewhere):
        directory.mkdir(parents=True)
        (directory / "a.jsonl").write_text("a")
    (data / "linked").symlink_to(elsewhere)
    (data / "linked" / "back").symlink_to(data)
    seen = [fingerprint_path(data)]
    (data / ".git" / "a.jsonl").write_text("b")
    (data / "train" / ".cache").write_text("b")
    assert fingerprint_path(data) == seen[0], "what is hidden does not count"
    (data / "train" / "deep" / "a.jsonl").write_text("b")
    seen.append(fingerprint_path(data))
    (elsewhere / "a.jsonl").write_text("b")
    seen.append(fingerprint_path(data))
    (data / "train" / "deep").rename(data / "train" / "shallow")
    seen.append(fingerprint_path(data))
    assert len(set(seen)) == 4


def test_a_large_file_is_read_once_and_a_damaged_note_is_no_hash(tmp_path: Path, reads: list[Path]) -> None:
    weights, copy = tmp_path / "weights", tmp_path / "copy"
    weights.write_bytes(b"w" * 2 * MIB)
    digest = hash_file(weights)
    copy.symlink_to(weights)
    assert [hash_file(weights), hash_file(copy)] == [digest, digest]
    assert reads == [weights]
    (note,) = (tmp_path / "cache" / "keel" / "sha256").iterdir()
    note.write_text("0")
    assert hash_file(weights) == digest
    assert len(reads) == 2


def test_what_was_written_a_moment_ago_is_read_again(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_SETTLED", 10**15)
    (tmp_path / "weights").write_bytes(b"w" * 2 * MIB)
    assert hash_file(tmp_path / "weights") == hash_file(tmp_path / "weights")
    assert len(reads) == 2


def test_no_cache_directory_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    (tmp_path / "weights").write_bytes(b"w" * 2 * MIB)
    assert hash_file(tmp_path / "weights") == hash_file(tmp_path / "weights")


def test_a_base_is_all_its_weights(tmp_path: Path) -> None:
    tensors = {f"layer{index}": torch.zeros(1 << 18) for index in range(4)}  # a MiB each
    found = []
    for changed in (None, "layer0", "layer3"):
        save_file({name: tensor + (name == changed) for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
        found.append(base_fingerprint(str(tmp_path)))
    assert len(set(found)) == 3


def commit(cache: Path, folder: str, revision: str, value: str) -> None:
    refs = cache / folder / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    (cache / folder / "snapshots" / value).mkdir(parents=True, exist_ok=True)
    (refs / revision).write_text(value)


def test_what_is_on_the_hub_counts_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_asked", lambda name, *_: ("asked" if name == "org/unseen" else None, None))
    for folder in ("models--org--name", "datasets--org--name"):
        commit(tmp_path, folder, "main", folder[0])
        commit(tmp_path, folder, "v2", folder[0] + "2")
    full = "0123456789" * 4
    reads = {
        "model.path": "org/name", "data.path": "org/name", "evaluation.attacks.x": "org/name", "judge.path": "org/name@v2",
        "model.tokenizer": f"org/name@{full}", "data.tests.t": "org/unseen", "data.other": "org/nowhere",
    }  # fmt: skip
    assert inputs_of(Stage("sft", "", reads=reads), {}) == {
        "model.path": "org/name@m", "data.path": "org/name@d", "evaluation.attacks.x": "org/name@d",
        "judge.path": "org/name@v2@m2", "model.tokenizer": f"org/name@{full}@{full}", "data.tests.t": "org/unseen@asked",
        "data.other": "org/nowhere",
    }  # fmt: skip
    commit(tmp_path, "models--org--name", "main", "moved")
    assert inputs_of(Stage("sft", "", reads=reads), {})["model.path"] == "org/name@moved"


def test_a_revision_that_is_asked_for_is_the_one_that_counts() -> None:
    config = load_config(composed(["experiment=sft", "model.path=org/name", "model.revision=v2", "evaluation=none"]))
    assert stage_named(config, "sft").reads["model.path"] == "org/name@v2"


def test_an_input_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record, "_sha256", refuse)
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"data.path: .*rows.jsonl cannot be read: .*Permission denied"):
        inputs_of(Stage("data", "", reads={"data.path": str(tmp_path / "rows.jsonl")}), {})
