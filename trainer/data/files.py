"""Rows of data files as they stand there: text stays text, and every row knows where it came from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trainer.data.folders import data_files
from trainer.data.readers import KINDS, SAVED, kind_of, rows_in
from trainer.errors import DataError

Row = Mapping[str, Any]
Located = tuple[str, Row]  # (`file: row n`, row); n counts from 1, in JSON lines the file's lines
T = TypeVar("T")

_DEEPEST = 50  # levels of lists and objects in a row
_LONGEST = 10_000_000  # characters of text in a row: more is no example, and costs hundreds of times as much to tokenize
_SAMPLE_SEED = 0  # a limit leaves the same rows in every run, whatever the run's seed


def located(rows: Iterable[Row], source: str) -> list[Located]:
    return [(f"{source}: row {number}", row) for number, row in enumerate(rows, start=1)]


def read_rows(path: Path, split: str | None = None, subset: str | None = None) -> list[Located]:
    """Rows of a data file (also .gz), or of a split in a directory: its data files in the order of their names, or what
    `save_to_disk` wrote.

    Args:
        split: as of `folders.data_files`, several joined by `+` as on the hub; a file is read whole.
        subset: as of `folders.data_files`.

    Raises:
        DataError: nothing is there, a file is empty or not what its name says, a row is not an object or holds what is no
            text, or the directory does not say which files are the split.
    """
    rows: list[Located] = []
    try:
        files = _files(path, split, subset)
    except (OSError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}; write it again.") from error
    for file in files:
        try:
            found = [checked(row, f"{file}: row {number}") for number, row in rows_in(file)]
        except DataError:
            raise
        except (OSError, EOFError, ValueError) as error:  # UnicodeDecodeError and pyarrow's errors are ValueErrors
            kind = "dataset with save_to_disk" if kind_of(file) == SAVED else f"UTF-8 {kind_of(file)[1:]}"
            raise DataError(f"{file}: cannot be read: {error}; write it again as {kind}.") from error
        if not found:
            raise DataError(f"{file}: has no rows; give a dataset with at least one row.")
        rows += found
    return rows


def _files(path: Path, split: str | None, subset: str | None) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: does not exist.")
    files = [path]
    if path.is_dir() and kind_of(path) != SAVED:
        files = [file for name in (split.split("+") if split else [None]) for file in data_files(path, name, subset)]
    if not kind_of(files[0]):
        raise DataError(f"{path}: no data file here; accepted: {', '.join(KINDS)} (and .gz of them).")
    if empty := [file for file in files if file.stat().st_size == 0]:
        raise DataError(f"{empty[0]}: is empty; give a dataset with at least one row.")
    return files


def checked(row: Any, where: str) -> Located:
    """
    Raises:
        DataError: it is no object, it is nested too deeply or too long, or a text in it holds half a surrogate pair.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: is a JSON {type(row).__name__}; write one JSON object per line.")
    length = sum(_check_text(value, f"{where}: {column}", _DEEPEST) for column, value in row.items())
    if length > _LONGEST:
        raise DataError(
            f"{where}: holds {length:,} characters of text, and a row may have {_LONGEST:,}; a row is one example: cut it into "
            "several, or remove the column that is no part of it."
        )
    return where, row


def _check_text(value: Any, where: str, depth: int) -> int:
    """Its characters of text."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: holds half of a surrogate pair, as where a text is cut inside a character; mend the text."
            ) from None
    elif isinstance(value, (dict, list)):
        if depth == 0:
            raise DataError(f"{where}: is nested more than {_DEEPEST} levels deep; flatten it or remove the column.")
        inner = value.values() if isinstance(value, dict) else value
        return sum(_check_text(one, where, depth - 1) for one in inner)
    return len(value) if isinstance(value, str) else 0


def sample(rows: Sequence[T], limit: int | None) -> list[T]:
    """At most so many of the rows, in their order: one drawn from each of `limit` stretches of equal length, always the same.

    The first rows would not do: published files are often sorted by category or label.
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    rng = random.Random(_SAMPLE_SEED)
    ends = [len(rows) * place // limit for place in range(limit + 1)]
    return [rows[rng.randrange(start, end)] for start, end in itertools.pairwise(ends)]


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
