"""The ledger's files: `.ledger/` beside the runs, one per run, each written whole under its final name."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.errors import ArtifactError
from trainer.record import fingerprint_of
from trainer.results.directories import read_run
from trainer.results.source import Source

DIRECTORY = ".ledger"
SUFFIX = ".parquet"
_TEXTS = (
    "run", "directory", "method", "model", "role", "base", "base_content", "data", "benchmark", "judge", "commit", "hardware",
    "config", "evaluated",
)  # fmt: skip


def ledger_of(runs: Path) -> Path:
    """The ledger of the runs below a directory (`paths.runs`)."""
    return runs / DIRECTORY


def append(ledger: Path, run_dir: Path) -> Path:
    """Write the rows of a finished run, in place of those it had; returns their file. Any number of processes may do so at
    once.

    Raises:
        ArtifactError: the run has not finished, or is damaged.
    """
    table = pa.Table.from_pylist(rows := rows_of(read_run(run_dir)), schema=_schema(rows))
    path = ledger / _file_of(run_dir)
    ledger.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    pq.write_table(table, temporary)
    temporary.replace(path)
    return path


def rebuild(runs: Path) -> tuple[int, dict[str, str]]:
    """Write every run below `runs` anew and drop the rows of those that are gone. Returns how many there are, and which runs
    were left out, and why."""
    ledger, written, left_out = ledger_of(runs), set(), {}
    found = sorted({path.parent for depth in ("*", "*/*", "*/*/*") for path in runs.glob(f"{depth}/config.yaml")})
    for run_dir in found:
        try:
            written.add(append(ledger, run_dir))
        except ArtifactError as error:
            left_out[str(run_dir)] = str(error)
    for path in ledger.glob(f"*{SUFFIX}") if ledger.is_dir() else ():
        if path not in written and not _holds(path):
            path.unlink(missing_ok=True)
    return len(written), left_out


def rows_of(source: Source) -> list[dict[str, Any]]:
    """One row per model: what it is, and `metric`, `metric/low`, `metric/high`, `metric/n` for each that it has."""
    shared = {
        "run": source.name,
        "directory": str(Path(source.where).resolve()),
        "method": source.method,
        "seed": source.seed,
        **source.facts,
    }
    rows = []
    for label, metrics in source.models.items():
        role = next((role for role in ("own", "base") if source.roles[role] == label), "other")
        row = {**shared, "model": label, "role": role}
        for name, entry in metrics.items():
            low, high = entry["ci95"] or (None, None)
            row |= {name: entry["value"], f"{name}/low": low, f"{name}/high": high, f"{name}/n": entry["n"]}
        rows.append(row)
    return rows


def _schema(rows: list[dict[str, Any]]) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row)

    def kind(name: str) -> pa.DataType:
        return pa.string() if name in _TEXTS else pa.int64() if name == "seed" or name.endswith("/n") else pa.float64()

    return pa.schema([(name, kind(name)) for name in names])


def _file_of(run_dir: Path) -> str:
    """A name of its own for every directory, which tells a reader which."""
    real = str(run_dir.resolve())
    return f"{re.sub(r'[^A-Za-z0-9=,.-]+', '_', run_dir.name)[:80]}-{fingerprint_of(real)}{SUFFIX}"


def _holds(path: Path) -> bool:
    """Whether the run of these rows is there, finished: it may have been evaluated just now."""
    try:
        (directory,) = set(pq.read_table(path, columns=["directory"])["directory"].to_pylist())
        return _file_of(Path(read_run(Path(directory)).where)) == path.name
    except (ArtifactError, pa.ArrowException, OSError, ValueError):
        return False
