"""Folders of data: the split that is asked for is read and no other, and what is not clear is asked."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from trainer.data.files import read_rows
from trainer.errors import DataError


def folder(root: Path, *names: str) -> Path:
    """Each file holds two rows that say its name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"a": f"{name} {i}"} for i in range(2)]
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif path.suffix in (".jsonl", ".json", ".csv"):
            path.write_text("a\n" + "".join(f"{row['a']}\n" for row in rows) if path.suffix == ".csv" else json.dumps(rows))
        else:
            path.write_text("not data")
    return root


def read(path: Path, split: str | None) -> list[str]:
    """The files that were read, in their order."""
    said = [row["a"].rsplit(" ", 1) for _, row in read_rows(path, split)]
    assert [number for _, number in said] == ["0", "1"] * (len(said) // 2)
    return [name for name, _ in said[::2]]


SHARDS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"]
H4 = [
    "data/train_prefs-00000-of-00001.parquet",
    "data/train_sft-00000-of-00001-0a1b2c3d4e5f6071.parquet",
    "data/test_prefs-00000-of-00001.parquet",
]


@pytest.mark.parametrize(
    ("files", "split", "expected"),
    [
        (["train.jsonl", "test.jsonl"], "train", ["train.jsonl"]),
        (["train.jsonl", "test.jsonl"], "test", ["test.jsonl"]),
        (["test.csv", "train.csv", "val.csv"], "validation", ["val.csv"]),
        (["dev.json", "training.json"], "train", ["training.json"]),
        (["trainset.json", "testset.json"], "test", ["testset.json"]),
        (["harmless_train.json", "harmless_val.json"], "train", ["harmless_train.json"]),
        (SHARDS, "train", SHARDS[:2]),
        (SHARDS, "test", SHARDS[2:]),
        (H4, "train_prefs", H4[:1]),
        (H4, "train_sft", H4[1:2]),
        (H4, "test", H4[2:]),
        (H4, "train_sft+test_prefs", [H4[1], H4[2]]),
        (["train/0.jsonl", "train/1.jsonl", "test/0.jsonl"], "train", ["train/0.jsonl", "train/1.jsonl"]),
        (["data/30k_train/x.json", "data/30k_test/x.json"], "30k_test", ["data/30k_test/x.json"]),
        (["odd/x.json", "even/x.json"], "odd", ["odd/x.json"]),
        (["train/a-00000-of-00001.json", "train/b-00000-of-00001.json", "x.json"], "train",
         ["train/a-00000-of-00001.json", "train/b-00000-of-00001.json"]),
        (["train_0.json", "train_1.json", "test_0.json"], "train", ["train_0.json", "train_1.json"]),
        (["train-part-0.json", "train-part-1.json"], "train", ["train-part-0.json", "train-part-1.json"]),
        (["train.jsonl", "dataset_infos.json", "README.md", ".cache/train.jsonl", "config.json"], "train", ["train.jsonl"]),
        (["train.jsonl", "notes.csv"], "train", ["train.jsonl"]),
        # no file says what split it is: they are one dataset
        (["b.jsonl", "a.json"], "train", ["a.json", "b.jsonl"]),
        (["seen.jsonl", "unseen.jsonl"], None, ["seen.jsonl", "unseen.jsonl"]),
        (["a.jsonl", "figures/plot.csv"], "train", ["a.jsonl"]),
        (["data/words-00000-of-00001.parquet"], "train", ["data/words-00000-of-00001.parquet"]),
        # nothing is asked, and there is one
        (["test.jsonl"], None, ["test.jsonl"]),
        (["latest.jsonl", "contest.jsonl"], "train", ["contest.jsonl", "latest.jsonl"]),
    ],
)  # fmt: skip
def test_the_split_that_is_asked_for_is_read(files: list[str], split: str | None, expected: list[str], tmp_path: Path) -> None:
    assert read(folder(tmp_path, *files), split) == expected


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (["train.jsonl", "test.jsonl"], None, "holds the splits test, train; it is not clear which is meant"),
        (["train.jsonl", "test.jsonl"], "validation", "holds the splits test, train; it is not clear which is validation"),
        (["test.jsonl"], "train", "holds the split test; it is not clear which is train"),
        (["test.jsonl", "rest.jsonl"], "train", "holds the split test and files of none; it is not clear which is train"),
        (["test.jsonl", "rest.jsonl"], None, "holds the split test and files of none; it is not clear which is meant"),
        (H4, "train", "holds the splits test_prefs, train_prefs, train_sft; it is not clear which is train"),
        (["harmful_train.json", "harmless_train.json"], "train", "holds the splits harmful_train, harmless_train; it is not"),
        (["harmful-00000-of-00001.json", "benign-00000-of-00001.json"], "train", "holds the splits benign, harmful; it is not"),
        (["en/train.json", "de/train.json"], "train", "holds several datasets, in de, en; give the path of one"),
        (["en/a.json", "de/a.json"], "train", "holds several datasets, in de, en"),
        (["train.json", "train.csv"], "train", "train.csv and train.json look like the same rows twice; remove one"),
        (SHARDS[:1], "train", "is one of 2 files of this name, and here are 1; download all of them anew"),
        (["train.jsonl", "train.jsonl.zst"], "train", r"train\.jsonl\.zst: \.zst is not read; unpack it"),
        (["README.md", "state.txt"], "train", r"no data file here; accepted: \.jsonl"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_asked(files: list[str], split: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(folder(tmp_path, *files), split)


CARD = """---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: first/*.jsonl
  - split: held_out
    path: [second/a.jsonl, second/c.jsonl]
---
# Card
"""


def test_the_card_says_which_files_are_which_split(tmp_path: Path) -> None:
    folder(tmp_path, "first/a.jsonl", "first/b.jsonl", "second/a.jsonl", "second/b.jsonl", "second/c.jsonl")
    (tmp_path / "README.md").write_text(CARD)
    assert read(tmp_path, "train") == ["first/a.jsonl", "first/b.jsonl"]
    assert read(tmp_path, "held_out") == ["second/a.jsonl", "second/c.jsonl"]
    with pytest.raises(DataError, match="holds the splits train, held_out; it is not clear which is test"):
        read_rows(tmp_path, "test")
    (tmp_path / "README.md").write_text(CARD.replace("  data_files:\n", "  data_files: second/b.jsonl\n- data_files:\n"))
    with pytest.raises(DataError, match=r"its README\.md names several datasets with a split train"):
        read_rows(tmp_path, "train")


@pytest.mark.parametrize("card", ["# Card", "---\nlicense: mit\n---\n", "---\n{\n---\n", "---\nconfigs: 3\n---\n"])
def test_a_card_that_says_nothing_of_files_changes_nothing(card: str, tmp_path: Path) -> None:
    folder(tmp_path, "train.jsonl", "test.jsonl")
    (tmp_path / "README.md").write_text(card)
    assert read(tmp_path, "train") == ["train.jsonl"]


def dataset(name: str, rows: int = 2) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"a": [f"{name} {i}" for i in range(rows)]})


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    dataset("one", 4).shuffle(seed=0).select(range(3)).save_to_disk(tmp_path / "one", num_shards=2)
    assert [row for _, row in read_rows(tmp_path / "one", "train")] == dataset("one", 4).shuffle(seed=0).to_list()[:3]
    datasets.DatasetDict(train=dataset("train"), test=dataset("test"), train_sft=dataset("sft")).save_to_disk(tmp_path / "all")
    assert [read(tmp_path / "all", name) for name in ("train", "test", "train_sft")] == [["train"], ["test"], ["sft"]]
    with pytest.raises(DataError, match="holds the splits train, test, train_sft; it is not clear which is meant"):
        read_rows(tmp_path / "all")


def test_a_saved_dataset_that_is_damaged_is_refused(tmp_path: Path) -> None:
    datasets.DatasetDict(train=dataset("train")).save_to_disk(tmp_path)
    (next((tmp_path / "train").glob("*.arrow"))).write_text("no longer")
    with pytest.raises(DataError, match=r"train: cannot be read: .* write it again as dataset with save_to_disk"):
        read_rows(tmp_path, "train")
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot be read: .*splits"):
        read_rows(tmp_path, "train")
