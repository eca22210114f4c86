"""The kinds of data files, and what stands in each: rows as they were written, numbered from 1."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trainer.errors import DataError

Numbered = Iterator[tuple[int, Any]]  # in JSON lines the numbers are the file's lines

KINDS = (".jsonl", ".json", ".csv", ".parquet")
SAVED = "saved"  # a folder that `save_to_disk` of datasets wrote
_POINTER = b"version https://git-lfs.github.com/spec/"
# Text packs to about a tenth: what unpacks to more than this many bytes, and this many times its size, is no text.
_UNPACKED, _RATIO = 256 << 20, 200


def kind_of(path: Path) -> str:
    """One of `KINDS` or `SAVED`; empty where it is no data."""
    if path.is_dir():
        return SAVED if (path / "state.json").is_file() else ""
    suffixes = [suffix for suffix in map(str.lower, path.suffixes) if suffix != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def rows_in(path: Path) -> Numbered:
    """The rows of one file.

    Raises:
        DataError: a row is damaged, or the file is not data but stands for it.
        OSError, EOFError, ValueError: the file is not what its name says.
    """
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise DataError(
                    f"{path}: is a Git LFS pointer: its repository was cloned without the data. Run `git lfs pull` in that "
                    "repository, or download the file itself."
                )
    return _READERS[kind_of(path)](path)


def _text(file: Path) -> str:
    if file.suffix.lower() != ".gz":
        return file.read_bytes().decode("utf-8-sig")
    most = max(_UNPACKED, _RATIO * file.stat().st_size)
    with gzip.open(file, "rb") as stream:
        unpacked = stream.read(most + 1)
    if len(unpacked) > most:
        raise DataError(
            f"{file}: unpacks to more than {_RATIO} times its size, which no text does, so it is not read; if it is right, "
            "unpack it with gunzip and give the unpacked file."
        )
    return unpacked.decode("utf-8-sig")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; where a name stands in it twice, the first value would be lost."""
    pairs = list(pairs)
    _refuse_twice([name for name, _ in pairs], "the key")
    return dict(pairs)


def _refuse_twice(names: Iterable[str], what: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} {twice[0]!r} stands there twice")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _read_json(file: Path) -> Numbered:
    """A list of objects, or one object per line: published files have either under either name."""
    text = _text(file)
    if text.lstrip()[:1] == "[":
        return enumerate(_parsed(text), start=1)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if kind_of(file) == ".json" and not _has_lines(lines):
        what = "one JSON object, which may be a row or hold rows" if isinstance(_parsed(text), dict) else "no list of objects"
        raise DataError(f"{file}: is {what}; put a row into a list, [{{...}}], or write one object per line as .jsonl.")
    return _read_lines(file, lines)


def _has_lines(lines: list[tuple[int, str]]) -> bool:
    """Whether there are several lines, and the first is a JSON value of its own."""
    try:
        return len(lines) > 1 and isinstance(_parsed(lines[0][1]), dict)
    except ValueError:
        return False


def _read_lines(file: Path, lines: Iterable[tuple[int, str]]) -> Numbered:
    for number, line in lines:
        try:
            yield number, _parsed(line)
        except ValueError as error:
            raise DataError(f"{file}: row {number}: is not JSON ({error}); write one JSON object per line.") from None


def _read_csv(file: Path) -> Numbered:
    csv.field_size_limit(sys.maxsize)  # responses may be long
    # Only a stream without newline translation leaves the line ends inside a quoted cell, and cuts at nothing but line ends.
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = cells
                _refuse_twice(header, "the column")
                continue
            number += 1
            if len(cells) != len(header):
                raise DataError(
                    f"{file}: row {number}: has {len(cells)} cells, and the header {len(header)} columns; put a cell that "
                    "holds a comma, a quote or a line end in double quotes."
                )
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{file}: row {number + 1}: is not CSV ({error}); quote its cells anew.") from None


def _read_parquet(file: Path) -> Numbered:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file).read()
    except pyarrow.ArrowException as error:
        raise ValueError(error) from error
    _refuse_twice(table.column_names, "the column")
    yield from enumerate(table.to_pylist(), start=1)


def _read_saved(folder: Path) -> Numbered:
    from datasets import load_from_disk

    yield from enumerate(load_from_disk(str(folder)), start=1)


_READERS = {".jsonl": _read_json, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet, SAVED: _read_saved}
