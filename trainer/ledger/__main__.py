"""The ledger of evaluated runs: `python -m trainer.ledger rebuild` makes it from their directories, `... query` asks it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from trainer.ending import explain
from trainer.errors import KeelError
from trainer.ledger.query import select
from trainer.ledger.store import ledger_of, rebuild
from trainer.terminal import prepare, table_console
from trainer.vocabulary import measure_of

_WIDTH = 160  # where the output is not a terminal
_WHOLE = 20  # columns up to which all are printed; of more, these, and the metrics of short tables
_NAMES = ("run", "method", "model", "seed", "role")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m trainer.ledger", description="One row per model of every evaluated run.")
    commands = found.add_subparsers(dest="command", required=True)
    anew = commands.add_parser("rebuild", help="make it anew from the directories of runs")
    anew.add_argument("runs", nargs="?", type=Path, default=Path("runs"), help="where they are (runs)")
    ask = commands.add_parser("query", help="print what SQL finds in the table `ledger`")
    ask.add_argument("query", help="a select of DuckDB, or what stands after its where")
    ask.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are (runs)")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        if given.command == "rebuild":
            return _rebuild(given.runs)
        names, rows = select(given.runs, given.query)
    except KeelError as error:
        return explain(error)
    shown = [i for i, name in enumerate(names) if len(names) <= _WHOLE or name in _NAMES or measure_of(name).headline]
    table = Table(*(names[i] for i in shown), box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(_text(row[i]) for i in shown))
    table_console(_WIDTH).print(table, markup=False)
    return 0


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _rebuild(runs: Path) -> int:
    count, left_out = rebuild(runs)
    print(f"{ledger_of(runs)}: {count} runs", flush=True)
    for where, why in left_out.items():
        print(f"left out: {where}: {why}", flush=True)
    return 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
