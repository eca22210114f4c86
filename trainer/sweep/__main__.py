"""What has become of a sweep: `python -m trainer.sweep runs/<run.name>` prints its runs, their states and metrics."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainer.ending import explain
from trainer.errors import ConfigError, KeelError
from trainer.sweep.journal import Journal
from trainer.sweep.state import present_rows
from trainer.sweep.table import print_table
from trainer.terminal import prepare

JOURNAL = "sweep.jsonl"


def main(directory: Path) -> int:
    journal = Journal(directory / JOURNAL)
    try:
        if not journal.path.exists():
            known = sorted(str(path.parent) for path in directory.parent.glob(f"*/{JOURNAL}"))
            raise ConfigError(f"{directory} is not a sweep's directory; sweeps beside it: {', '.join(known) or 'none'}.")
        rows = present_rows(journal)
    except KeelError as error:
        return explain(error)
    print_table(f"{directory.name}: {len(rows)} runs", rows)
    return 0


if __name__ == "__main__":
    prepare()
    parser = argparse.ArgumentParser(prog="python -m trainer.sweep", description="The runs of a sweep as they are now.")
    parser.add_argument("directory", type=Path, help="the sweep's directory: runs/<run.name>")
    sys.exit(main(parser.parse_args().directory))
