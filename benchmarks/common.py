"""What every benchmark shares: its options, what it says of the machine, and how its tables are printed and written."""

from __future__ import annotations

import json
import os
import platform
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table as RichTable

from trainer.record import git_commit

CUDA = torch.cuda.is_available()
LIBRARIES = ("torch", "transformers", "trl", "peft", "deepspeed")
WIDTH = 140
Row = tuple[str, ...]
Rows = list[Row]


class Table(NamedTuple):
    caption: str
    header: Row
    rows: Rows


def options(doc: str | None) -> ArgumentParser:
    """A parser with the options that all benchmarks have; the docstring is the help."""
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="the smallest sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, the commit and the hardware there too")
    return parser


def hardware() -> str:
    """The device that tensors are on, and how much of it."""
    if CUDA:
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"


def publish(given: Namespace, benchmark: str, title: str, tables: Sequence[Table]) -> None:
    """Prints the tables, and writes them where `--json` says."""
    facts = {
        "benchmark": benchmark,
        "title": f"smoke: {title}" if given.smoke else title,
        "smoke": given.smoke,
        "date": str(date.today()),
        "commit": git_commit(),
        "hardware": hardware(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    console = Console(width=WIDTH)
    console.print("\n".join(f"{name}: {value}" for name, value in facts.items()), markup=False, highlight=False)
    for table in tables:
        shown = RichTable(*table.header, title=table.caption)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    if given.json is not None:
        text = json.dumps({**facts, "tables": [table._asdict() for table in tables]}, indent=1, ensure_ascii=False)
        given.json.write_text(f"{text}\n")
