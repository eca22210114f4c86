"""Files of rows: no row is cut, joined, lost or changed without a word, whatever stands in the file."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trainer.data.files import read_rows, sample
from trainer.errors import DataError

SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\n", "\r\n"]


def rows(path: Path) -> list[Any]:
    return [row for _, row in read_rows(path)]


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


# ------------------------------------------------------------------------------------------------------------------- csv
@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_cell_with_what_some_take_for_a_line_end_stays_one_cell(separator: str, tmp_path: Path) -> None:
    want = [{"text": f"one{separator}two", "label": "1"}, {"text": "three", "label": f"a{separator}"}]
    with (tmp_path / "f.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(want)
    assert rows(tmp_path / "f.csv") == want


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_may_have_any_line_end_and_empty_lines(end: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(end.join(["a,b", "1,2", "", "3,4", ""]).encode())
    assert rows(tmp_path / "f.csv") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\none, two,3\n", r"row 2: has 3 cells, and the header 2 columns; put a cell that holds a comma"),
        ("a,b\n1,2\n3\n", r"row 2: has 1 cells, and the header 2 columns"),
        ('a,b\n1,2\n3,"4\n5,6\n', r"row 2: is not CSV \(unexpected end of data\)"),
        ("a,b,a\n1,2,3\n", r"the column 'a' stands there twice"),
    ],
)
def test_a_csv_of_which_a_cell_would_be_lost_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=rf"f\.csv: .*{message}"):
        read_rows(tmp_path / "f.csv")


# ------------------------------------------------------------------------------------------------------------------ json
@pytest.mark.parametrize("name", ["f.json", "f.jsonl", "f.JSON", "f.json.gz", "f.jsonl.gz"])
@pytest.mark.parametrize(
    "text", ['[{"a": 1}, {"a": 2}]', ' \n[\n{"a": 1},\n{"a": 2}]\n', '{"a": 1}\n{"a": 2}', '{"a": 1}\r\n\n{"a": 2}\n']
)
def test_a_list_and_json_lines_are_told_apart_by_what_stands_there(name: str, text: str, tmp_path: Path) -> None:
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert rows(tmp_path / name) == [{"a": 1}, {"a": 2}]


def test_json_lines_of_one_row_and_the_number_of_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"a": 1}')
    assert read_rows(tmp_path / "f.jsonl") == [(f"{tmp_path / 'f.jsonl'}: row 1", {"a": 1})]
    (tmp_path / "f.json").write_text('{"a": 1}\n\n{"a": 2\n')
    with pytest.raises(DataError, match=r"f\.json: row 3: is not JSON"):
        read_rows(tmp_path / "f.json")


@pytest.mark.parametrize(
    "text", ['{"a": 1}\n', '{"train": [{"a": 1}], "test": [{"a": 2}]}', '{\n "data": [\n  {"a": 1}\n ]\n}\n']
)
def test_an_object_alone_is_neither_a_row_nor_rows(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(DataError, match=r"f\.json: is one JSON object, which may be a row or hold rows; put a row into a list"):
        read_rows(tmp_path / "f.json")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"a": 1}\n{"a": 1, "b": {"c": 1, "c": 2}}\n')
    with pytest.raises(DataError, match=r"row 2: is not JSON \(the key 'c' stands there twice\)"):
        read_rows(tmp_path / "f.jsonl")


@pytest.mark.parametrize("separator", SEPARATORS)
def test_json_lines_end_at_a_newline_alone(separator: str, tmp_path: Path) -> None:
    want = [{"a": f"one{separator}two"}, {"a": "three"}]
    text = "".join(json.dumps(row, ensure_ascii=separator in "\r\n") + "\n" for row in want)
    (tmp_path / "f.jsonl").write_text(text, encoding="utf-8", newline="")
    assert rows(tmp_path / "f.jsonl") == want


# ------------------------------------------------------------------------------------------------------------- every kind
@pytest.mark.parametrize(
    ("name", "text"), [("f.csv", "a,b\n1,2\n"), ("f.jsonl", '{"a": "1", "b": "2"}\n'), ("f.json", '[{"a": "1", "b": "2"}]')]
)
def test_a_byte_order_mark_is_not_part_of_the_first_column(name: str, text: str, tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + text.encode()
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    assert rows(tmp_path / name) == rows(tmp_path / f"{name}.gz") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz", "f.json", "f.csv", "f.parquet"])
def test_a_git_lfs_pointer_is_called_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 16200131\n")
    with pytest.raises(DataError, match=rf"{name}: is a Git LFS pointer: .* Run `git lfs pull` in that repository"):
        read_rows(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": "x\ud83d"}, r"a: holds half of a surrogate pair"),
        ({"a": [{"content": "\ude00"}]}, r"a: holds half of a surrogate pair"),
        ({"a": json.loads("[" * 60 + "]" * 60)}, r"a: is nested more than 50 levels deep"),
    ],
)
def test_what_is_no_text_is_refused_by_row(row: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(lines({"a": "fine \U0001f600"}, row))
    with pytest.raises(DataError, match=rf"f\.jsonl: row 2: {message}"):
        read_rows(tmp_path / "f.jsonl")


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"a": "\\ud83d\\ude00"}\n')
    assert rows(tmp_path / "f.jsonl") == [{"a": "\U0001f600"}]


@pytest.mark.parametrize("name", ["f.json", "f.jsonl"])
def test_absurdly_deep_json_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(
        "[" * 200_000 + "]" * 200_000 if name == "f.json" else '{"a": ' * 200_000 + "1" + "}" * 200_000
    )
    with pytest.raises(DataError, match=rf"{name}: .*nested too deeply"):
        read_rows(tmp_path / name)


def test_a_gzip_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.readers._UNPACKED", 1 << 18)
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(b" " * (1 << 20)))
    with pytest.raises(DataError, match=r"f\.jsonl\.gz: unpacks to more than 200 times its size, .* unpack it with gunzip"):
        read_rows(tmp_path / "f.jsonl.gz")
    (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress(lines(*({"a": f"{i:0128b}"} for i in range(20_000))).encode()))
    assert len(read_rows(tmp_path / "g.jsonl.gz")) == 20_000  # larger than that, and packed as text is


def test_a_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pyarrow.table([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"the column 'a' stands there twice"):
        read_rows(tmp_path / "f.parquet")


def test_a_folder_called_like_a_column_adds_none(tmp_path: Path) -> None:
    (tmp_path / "label=1").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"a": ["x"]}), tmp_path / "label=1" / "f.parquet")
    assert rows(tmp_path / "label=1" / "f.parquet") == [{"a": "x"}]


# ------------------------------------------------------------------------------------------------------------------ limit
def test_a_limit_takes_its_share_of_every_part_of_a_sorted_file() -> None:
    kinds = ["safe"] * 600 + ["unsafe"] * 300 + ["rare"] * 100
    drawn = sample(kinds, 100)
    assert [drawn.count(kind) for kind in ("safe", "unsafe", "rare")] == [60, 30, 10]
    numbers = sample(range(1000), 30)
    assert list(numbers) == sorted(set(numbers)) and len(numbers) == 30 and numbers == sample(range(1000), 30)
    assert list(numbers) != list(range(0, 1000, 33))[:30]  # drawn, not every 33rd


@pytest.mark.parametrize(("limit", "expected"), [(None, 5), (5, 5), (9, 5), (4, 4), (1, 1)])
def test_a_sample_is_never_larger_than_what_is_there(limit: int | None, expected: int) -> None:
    assert len(set(sample(range(5), limit))) == expected


@pytest.mark.real_data
def test_a_limit_on_a_published_file_is_not_its_head(public_data: Path) -> None:
    path = public_data / "strongreject" / "strongreject_dataset.csv"  # sorted by category
    all_of_them = {row["category"] for _, row in read_rows(path)}
    assert {row["category"] for _, row in sample(read_rows(path), 30)} == all_of_them


def test_a_row_that_is_no_example_is_refused_by_its_length(tmp_path: Path) -> None:
    """One line of 50 MB is a book, and would be tokenized as one."""
    (tmp_path / "f.jsonl").write_text(lines({"text": "a"}, {"text": "a", "turns": [{"content": "word " * 2_000_001}]}))
    with pytest.raises(DataError, match=r"row 2: holds 10,000,006 characters of text, and a row may have 10,000,000"):
        read_rows(tmp_path / "f.jsonl")
