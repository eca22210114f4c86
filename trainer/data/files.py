"""Rows of data files as they stand there: text stays text, and every row knows where it came from."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import DataError

Row = Mapping[str, Any]
Located = tuple[str, Row]  # (`file: row n`, row); n counts from 1, in jsonl the file's lines

KINDS = (".jsonl", ".json", ".csv", ".parquet")


def located(rows: Iterable[Row], source: str) -> list[Located]:
    return [(f"{source}: row {number}", row) for number, row in enumerate(rows, start=1)]


def read_rows(path: Path) -> list[Located]:
    """Rows of a data file (also .gz), or of every data file in a directory, in the order of their names.

    Raises:
        DataError: nothing is there, a file is empty or not what its name says, or a row is not an object.
    """
    rows: list[Located] = []
    for file in _data_files(path):
        try:
            found = list(_READERS[_kind(file)](file))
        except DataError:
            raise
        except (OSError, EOFError, ValueError) as error:  # UnicodeDecodeError and pyarrow's errors are ValueErrors
            raise DataError(f"{file}: cannot be read: {error}; write it again as UTF-8 {_kind(file)[1:]}.") from error
        if not found:
            raise DataError(f"{file}: has no rows; give a dataset with at least one row.")
        rows += found
    return rows


def _kind(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def _data_files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: does not exist.")
    files = sorted(p for p in path.iterdir() if _kind(p)) if path.is_dir() else [path]
    if not files or not _kind(files[0]):
        raise DataError(f"{path}: no data file here; accepted: {', '.join(KINDS)} (and .gz of them).")
    if empty := [file for file in files if file.stat().st_size == 0]:
        raise DataError(f"{empty[0]}: is empty; give a dataset with at least one row.")
    return files


def _text(file: Path) -> str:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        return stream.read().decode("utf-8")


def _object(value: Any, where: str) -> Located:
    if not isinstance(value, dict):
        raise DataError(f"{where}: is a JSON {type(value).__name__}; write one JSON object per line.")
    return where, value


def _read_jsonl(file: Path) -> Iterator[Located]:
    # str.splitlines would also cut at U+2028 inside a text.
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}: row {number}"
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: is not JSON ({error}); write one JSON object per line.") from None
        yield _object(value, where)


def _read_json(file: Path) -> Iterator[Located]:
    value = json.loads(_text(file))
    if not isinstance(value, list):
        raise DataError(f"{file}: is a JSON {type(value).__name__}; write a list of objects, or one object per line as .jsonl.")
    for number, row in enumerate(value, start=1):
        yield _object(row, f"{file}: row {number}")


def _read_csv(file: Path) -> Iterator[Located]:
    csv.field_size_limit(sys.maxsize)  # responses may be long
    reader = csv.DictReader(_text(file).splitlines(keepends=True), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{file}: row {reader.line_num}: is not CSV ({error}).") from None
    yield from located(rows, str(file))


def _read_parquet(file: Path) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowException as error:
        raise ValueError(error) from error
    yield from located(table.to_pylist(), str(file))


_READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}


def require_columns(rows: list[Located], columns: Iterable[str], format_: str) -> None:
    """Raises DataError naming the missing columns and what is there instead, for the first row that lacks one."""
    for where, row in rows:
        if missing := [c for c in columns if c not in row]:
            raise DataError(
                f"{where}: format {format_} needs column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
                f"it has {', '.join(map(str, row)) or 'none'}. Rename them, or choose the data.format that fits."
            )


def text_of(row: Row, column: str, where: str) -> str:
    """Raises DataError where that column is not text."""
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{where}: {column} must be text, is {type(value).__name__}.")
    return value
