"""Is this machine fit for this run? `python -m trainer.doctor launcher=slurm launcher.nodes=2 ...`: a run's own overrides.

Starts the run's ranks for some seconds, trains nothing, and prints a line a fact and a fix a fault. With launcher=slurm
outside an allocation it submits a job of at most ten minutes and waits for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.schema import RunConfig, RunSection, SlurmLauncher
from trainer.doctor.checks import Finding
from trainer.doctor.checkup import examine
from trainer.doctor.table import print_findings
from trainer.ending import KEYBOARD, explain
from trainer.errors import KeelError
from trainer.run import claim_directory, submits_to_slurm


def config_of(overrides: Sequence[str]) -> RunConfig:
    """The config that `python -m trainer` with these overrides would run, in a directory of the doctor's own.

    Raises:
        ConfigError: with every problem found.
    """
    name = f"doctor/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
    run = RunSection(name=name)  # type: ignore[call-arg]  # mypy does not read pydantic's Field(min_length=...)
    return replace(load_config(composed(overrides)), run=run)  # type: ignore[type-var]  # pydantic dataclasses are dataclasses


def check_up(config: RunConfig) -> list[Finding]:
    """Examine the machine that the config names. What was written is removed again when all is well."""
    run_dir = claim_directory(config)
    if isinstance(config.launcher, SlurmLauncher) and submits_to_slurm(config):
        from trainer.doctor.submitted import examine_in_job

        findings = examine_in_job(config.launcher, run_dir)
    else:
        findings = examine(config, run_dir)
    if not any(finding.is_fault for finding in findings):
        shutil.rmtree(run_dir, ignore_errors=True)
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what you would give to python -m trainer")
    given = parser.parse_args(arguments)
    try:
        findings = check_up(config_of(given.overrides))
    except KeelError as error:
        return explain(error)
    except KeyboardInterrupt:
        return KEYBOARD
    print_findings(findings, Console())
    return 1 if any(finding.is_fault for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
