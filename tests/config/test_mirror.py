"""Copies of the user's own, which an index names as the hub does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.mirror import use_mirror
from trainer.config.shipped import SHIPPED
from trainer.data.hub import read_source, read_splits
from trainer.errors import ConfigError, DataError
from trainer.models.load import load_tokenizer
from trainer.pipeline.chain import chain

INDEX = """
datasets:
  lab/chats: {path: chats, licence: MIT}
  lab/questions:hard: {path: some/hard.csv, split: test}
  lab/questions: {path: some/easy.csv}
  lab/gone: {path: nowhere}
models:
  lab/base: {path: base}
  lab/gone: {path: nowhere}
"""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "mirror"
    (root / "chats").mkdir(parents=True)
    (root / "some").mkdir()
    for split in ("train", "test"):
        (root / "chats" / f"{split}.jsonl").write_text(json.dumps({"prompt": split, "completion": "5"}) + "\n")
    for name in ("easy", "hard"):
        (root / "some" / f"{name}.csv").write_text(f"question\n{name}\n")
    (root / "base").symlink_to(SHIPPED["sandbox"])
    (root / "index.yaml").write_text(INDEX)
    monkeypatch.chdir(tmp_path)
    yield root
    use_mirror(None)


def run(*overrides: str) -> list[str]:
    return ["experiment=sft", "data=chat", "evaluation=none", "model.path=lab/base", "model.dtype=float32", *overrides]


def test_a_run_reads_copies_by_their_names_on_the_hub(mirror: Path) -> None:
    config = load_config(composed(run("data.path=lab/chats", "paths.mirror=mirror")))
    assert read_source("lab/chats", "train")[0][1]["prompt"] == "train"
    assert load_tokenizer(config.model, "lab/base")("say")["input_ids"]
    reads = {key: name for stage in chain(config) for key, name in stage.reads.items()}
    assert reads["data.path"] == str(mirror / "chats") and reads["model.path"] == str(mirror / "base")


def test_a_local_path_is_read_before_the_mirror_and_that_before_the_hub(mirror: Path, tmp_path: Path) -> None:
    use_mirror(str(mirror))
    assert [row["prompt"] for _, row in read_source("lab/chats", "test")] == ["test"]
    (tmp_path / "lab" / "chats").mkdir(parents=True)
    (tmp_path / "lab" / "chats" / "test.jsonl").write_text('{"prompt": "mine", "completion": "5"}\n')
    assert [row["prompt"] for _, row in read_source("lab/chats", "test")] == ["mine"]


def test_a_file_is_one_split_and_no_other(mirror: Path) -> None:
    use_mirror(str(mirror))
    assert read_source("lab/questions", None)[0][1] == read_source("lab/questions", "train")[0][1] == {"question": "easy"}
    assert read_source("lab/questions:hard", "test")[0][1] == {"question": "hard"}
    assert read_splits("lab/questions:hard").keys() == {"test"}
    with pytest.raises(DataError, match=r"lab/questions: its copy in the mirror, .*easy\.csv, is the split train, not test"):
        read_source("lab/questions", "test")


def test_what_the_index_names_and_is_not_there_is_a_mistake(mirror: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(composed(run("data.path=lab/gone", "model.path=lab/gone", "paths.mirror=mirror")))
    assert {problem.partition(":")[0] for problem in caught.value.problems} == {"data.path", "model.path"}
    assert all("and that does not exist; mend its index.yaml" in problem for problem in caught.value.problems)


def test_a_subset_of_a_copy_is_a_folder_in_it(mirror: Path) -> None:
    use_mirror(str(mirror))
    (mirror / "chats" / "short").mkdir()
    (mirror / "chats" / "short" / "train.jsonl").write_text('{"prompt": "short"}\n')
    assert read_source("lab/chats:short", "train")[0][1]["prompt"] == "short"
    with pytest.raises(DataError, match="holds no dataset long"):
        read_source("lab/chats:long", "train")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datasets: {a/b: {file: x}}", "datasets.a/b.path"),
        ("dataset: {}", "dataset: "),
        ("datasets: {a/b: x}", "datasets.a/b"),
        ("- a", "cannot be read"),
        ("datasets: {", "cannot be read"),
    ],
)
def test_an_index_with_mistakes_is_refused(text: str, said: str, mirror: Path) -> None:
    (mirror / "index.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(composed(run("data.path=lab/chats", "paths.mirror=mirror")))
    assert any(line.startswith("paths.mirror: ") and said in line for line in caught.value.problems), caught.value.problems


def test_a_mirror_that_is_not_there_is_refused_and_one_of_the_environment_is_used(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"paths\.mirror: nowhere is no directory"):
        load_config(composed(run("data.path=lab/chats", "paths.mirror=nowhere")))
    monkeypatch.setenv("KEEL_MIRROR", str(mirror))
    config = load_config(composed(run("data.path=lab/chats")))
    assert config.paths.mirror == str(mirror) and read_source("lab/chats", "train")
