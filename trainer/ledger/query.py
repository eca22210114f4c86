"""The ledger as a table that SQL asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from trainer.errors import ArtifactError, ConfigError
from trainer.ledger.store import SUFFIX, ledger_of


def select(runs: Path, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows.

    Args:
        query: of DuckDB, from the table `ledger`; or what alone would stand after `where`.

    Raises:
        ConfigError: there is no ledger, or the query is wrong.
        ArtifactError: a file of the ledger is damaged.
    """
    files = sorted(map(str, ledger_of(runs).glob(f"*{SUFFIX}")))
    if not files:
        raise ConfigError(
            f"{runs}: no ledger is there; `python -m trainer.ledger rebuild {runs}` makes it from the runs below."
        )
    whole = query.strip() or "true"
    if not whole.lower().startswith(("select", "with", "from")):
        whole = f"select * from ledger where {whole}"
    with duckdb.connect() as database:
        try:
            database.read_parquet(files, union_by_name=True).create_view("ledger")
        except duckdb.Error as error:
            raise ArtifactError(
                f"{ledger_of(runs)} is damaged ({error}); `python -m trainer.ledger rebuild {runs}`."
            ) from error
        try:
            found = database.execute(whole)
            return [column[0] for column in found.description or ()], found.fetchall()
        except duckdb.Error as error:
            raise ConfigError(
                f'the query is wrong: {error}; names with a slash stand in double quotes: "safety/asr" < 0.1.'
            ) from error


def directories(runs: Path, query: str) -> list[Path]:
    """The runs that a query finds, each once.

    Raises:
        ConfigError, ArtifactError: as `select`; or the query finds none, or has no column `directory`.
    """
    names, rows = select(runs, query)
    if "directory" not in names:
        raise ConfigError("--ledger: the query has no column directory, which says where a run is; select it too.")
    place = names.index("directory")
    if not (found := list(dict.fromkeys(Path(row[place]) for row in rows))):
        raise ConfigError(f"--ledger: no run in {ledger_of(runs)} is so.")
    return found
