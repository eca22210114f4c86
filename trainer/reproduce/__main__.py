"""A paper's table with our rows: `python -m trainer.reproduce cosalign` runs it on the sandbox, and prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from trainer.__main__ import main as train
from trainer.compare.build import compare
from trainer.compare.comparison import Comparison
from trainer.ending import explain
from trainer.errors import ConfigError, KeelError
from trainer.reproduce.published import PLACES, TABLES
from trainer.reproduce.table import shown
from trainer.results.directories import read_directories
from trainer.terminal import prepare, table_console

_WIDTH = 180  # where the output is not a terminal
_HERE = (
    "Rows from here are of the model and the hardware named in them, in our evaluation, with 95% intervals: they show the "
    "shape of the result, and measure the paper's models only where the model is the same."
)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m trainer.reproduce",
        description="The table of a paper with our rows beside the published ones. What is finished is reused.",
    )
    found.add_argument("method", choices=sorted(TABLES))
    found.add_argument("--on", choices=PLACES, default="sandbox", help="which of its experiments (sandbox)")
    found.add_argument("--seeds", type=_seeds, default=[0], metavar="0,1,2", help="one run of each experiment for each (0)")
    found.add_argument("--runs", default="runs", metavar="DIR", help="where the runs are: paths.runs (runs)")
    found.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run, such as launcher.processes=2")
    return found


def _seeds(text: str) -> list[int]:
    return list(dict.fromkeys(int(seed) for seed in text.split(",")))


def runs_of(method: str, on: str, seeds: Sequence[int]) -> dict[str, list[str]]:
    """run.name -> what it is started with.

    Raises:
        ConfigError: there is no such experiment.
    """
    if not (experiments := TABLES[method].experiments[on]):
        known = [place for place in PLACES if TABLES[method].experiments[place]]
        raise ConfigError(f"--on: {method} has no experiment on {on}; there are those on {', '.join(known)}.")
    return {
        f"reproduce/{experiment.replace('/', '-')}/seed={seed}": [f"experiment={experiment}", f"seed={seed}"]
        for experiment in experiments
        for seed in seeds
    }


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_intermixed_args(arguments)
    status = 0
    try:
        runs = runs_of(given.method, given.on, given.seeds)
        for name, start in runs.items():
            status = _started([*start, f'run.name="{name}"', f"paths.runs={given.runs}", *given.overrides])
            if status:
                break
        found = _read([Path(given.runs) / name for name in runs])
    except KeelError as error:
        return explain(error)
    _print(given.method, found)
    return status


def _started(arguments: list[str]) -> int:
    try:
        return train(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


def _read(directories: Sequence[Path]) -> Comparison | None:
    """Those that have finished; a submitted run has not."""
    sources, left_out = read_directories([path for path in directories if path.exists()])
    for where, why in left_out.items():
        print(f"not in the table: {where}: {why}; the same command prints it once it has finished", flush=True)
    return compare(sources, left_out) if sources else None


def _print(method: str, found: Comparison | None) -> None:
    published = TABLES[method]
    words = shown(published, found)
    table = Table(box=box.SIMPLE_HEAD, title=f"{method}: arXiv {published.paper}, and here", title_justify="left")
    for place, text in enumerate(words.headings):
        table.add_column(text, justify="left" if place < 4 else "right", overflow="fold")
    for row in words.rows:
        table.add_row(*row, style="bold" if row[1].startswith("here") else None)
    console = table_console(_WIDTH)
    console.print(table, markup=False)
    console.print(f"Published: {published.asks}. {_HERE}", soft_wrap=True)


if __name__ == "__main__":
    prepare()
    sys.exit(main())
