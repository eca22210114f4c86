"""Runs side by side: `python -m trainer.compare runs/a runs/b --out report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.compare.build import compare
from trainer.compare.latex import write_latex
from trainer.compare.markdown import write_markdown
from trainer.compare.spreadsheet import write_csv
from trainer.compare.terminal import print_comparison
from trainer.ending import explain
from trainer.errors import KeelError
from trainer.results.directories import read_directories

WRITERS = {"report.md": write_markdown, "table.tex": write_latex, "table.csv": write_csv}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m trainer.compare",
        description="Runs side by side, of any methods: metrics with intervals, tests, Pareto fronts.",
    )
    found.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="directories of runs, or of sweeps")
    found.add_argument("--out", type=Path, metavar="DIR", help=f"write {', '.join(WRITERS)} there")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        comparison = compare(*read_directories(given.runs))
    except KeelError as error:
        return explain(error)
    print_comparison(comparison)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        for name, write in WRITERS.items():
            write(comparison, given.out / name)
        print(f"written: {', '.join(str(given.out / name) for name in WRITERS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
