"""What a batch script runs: `python -m trainer.job RUN_DIR [--stage S]`, or `--tasks FILE` in a job array.

It composes nothing: the config stands in the run directory since the run was submitted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainer.compare.of_run import leave_report
from trainer.config.load import read_own_config
from trainer.config.run import RunConfig
from trainer.ending import CONTINUES, KEYBOARD, explain
from trainer.errors import ConfigError, Interrupted, KeelError
from trainer.evaluation.report import print_report
from trainer.pipeline.run import CONFIG, carry_out


def run_in_job(config: RunConfig, run_dir: Path, only: str | None = None) -> int:
    """Carry out a run, or one stage of it, inside a job of its launcher; a run that a signal stopped is queued again.

    Args:
        run_dir: claimed before.

    Returns:
        The exit code (see trainer/errors.py). Errors have been printed.
    """
    try:
        carry_out(config, run_dir, only)
        if only is None:
            print_report(config, run_dir)
        leave_report(run_dir)
        return 0
    except Interrupted as error:
        explain(error)
        scheduler = config.launcher.scheduler
        assert scheduler is not None  # only then there are jobs
        return scheduler.requeue()
    except KeelError as error:
        return explain(error)
    except KeyboardInterrupt:
        print(f"\n{CONTINUES}", file=sys.stderr, flush=True)
        return KEYBOARD


def _task_of(tasks: Path) -> Path:
    """The run directory of this element of a job array. The runs of an array have one launcher, so the first one's tells."""
    run_dirs = [Path(line) for line in tasks.read_text().splitlines()]
    scheduler = read_own_config(run_dirs[0] / CONFIG).launcher.scheduler
    assert scheduler is not None  # it submitted the array
    return run_dirs[scheduler.element()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.job", description="Carry out a submitted run. sbatch calls this.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("run_dir", nargs="?", type=Path, metavar="RUN_DIR", help="a run directory with its config")
    what.add_argument("--tasks", type=Path, metavar="FILE", help="run directories, one per line: one element of an array each")
    parser.add_argument("--stage", help="only this stage; those before it must be finished")
    arguments = parser.parse_args()
    try:
        run_dir = arguments.run_dir or _task_of(arguments.tasks)
        config = read_own_config(run_dir / CONFIG)
    except ConfigError as error:
        return explain(error)
    return run_in_job(config, run_dir, arguments.stage)


if __name__ == "__main__":
    sys.exit(main())
