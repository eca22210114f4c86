"""Runs side by side: `python -m trainer.compare runs/first runs/second --out report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.compare.build import compare
from trainer.compare.comparison import Comparison
from trainer.compare.html import write_html
from trainer.compare.latex import write_latex
from trainer.compare.markdown import write_markdown
from trainer.compare.online import read_online
from trainer.compare.picture import draw_pareto
from trainer.compare.spreadsheet import write_csv
from trainer.compare.terminal import print_comparison
from trainer.ending import explain
from trainer.errors import ConfigError, KeelError
from trainer.ledger.query import directories
from trainer.results.directories import read_directories
from trainer.results.source import Source
from trainer.terminal import prepare

WRITERS = {"report.md": write_markdown, "table.tex": write_latex, "table.csv": write_csv, "report.html": write_html}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m trainer.compare",
        description="Runs side by side, of any methods: what safety cost, with intervals, tests and Pareto fronts.",
    )
    found.add_argument("given", nargs="*", type=Path, metavar="RUN", help="directories of runs, or of sweeps")
    found.add_argument("--sweep", metavar="NAME", help="the runs of a sweep: its run.name")
    found.add_argument(
        "--ledger", metavar="QUERY", help="the runs that SQL finds in the ledger: a select, or what stands after where"
    )
    found.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where --sweep and --ledger look (runs)")
    found.add_argument("--wandb", metavar="ENTITY/PROJECT", help="the runs of --group in this project of W&B")
    found.add_argument("--group", help="see --wandb")
    found.add_argument("--out", type=Path, metavar="DIR", help=f"write {', '.join(WRITERS)} there")
    return found


def sources_of(given: argparse.Namespace) -> tuple[list[Source], dict[str, str]]:
    """
    Raises:
        ConfigError, ArtifactError: what is asked for is not there, or nothing is, or a run comes twice.
    """
    if (given.wandb is None) != (given.group is None):
        raise ConfigError("--wandb and --group: each needs the other; give both.")
    paths = list(given.given)
    if given.sweep is not None:
        paths.append(given.runs / given.sweep)
    if given.ledger is not None:
        paths += directories(given.runs, given.ledger)
    sources, left_out = read_directories(paths)
    if given.wandb is not None:
        online, not_read = read_online(given.wandb, given.group)
        sources, left_out = [*sources, *online], {**left_out, **not_read}
    return sources, left_out


def write_all(comparison: Comparison, out: Path) -> list[Path]:
    """Every file of a report, and a picture of each Pareto front; returns their paths.

    Raises:
        OSError: one cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, write in WRITERS.items():
        write(comparison, out / name)
    fronts = {out / (f"{one.safety}_{one.capability}".replace("/", "-") + ".png"): one for one in comparison.paretos}
    for path, front in fronts.items():
        draw_pareto(comparison, front, path)
    return [*(out / name for name in WRITERS), *fronts]


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        comparison = compare(*sources_of(given))
        print_comparison(comparison)
        written = [] if given.out is None else write_all(comparison, given.out)
    except KeelError as error:
        return explain(error)
    except OSError as error:
        return explain(ConfigError(f"--out: {given.out} cannot be written: {error}"))
    if written:
        print(f"written: {', '.join(map(str, written))}")
    return 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
