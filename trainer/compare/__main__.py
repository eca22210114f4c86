"""Runs side by side: `python -m trainer.compare runs/a runs/b --out report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m trainer.compare", description="Runs side by side, of any methods.")
    found.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="directories of runs, or of sweeps")
    found.add_argument("--out", type=Path, metavar="DIR", help="where to write report.md, table.tex, table.csv, report.html")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser().parse_args(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
