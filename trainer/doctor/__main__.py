"""Is this machine fit for this run? `python -m trainer.doctor launcher=slurm launcher.nodes=2 ...`: a run's own overrides.

Starts the run's ranks for some seconds, trains nothing, and prints one line per fact and a fix per fault. With launcher=slurm
outside an allocation it submits a job of at most ten minutes and waits for it. A global batch that does not divide into the
ranks is only mentioned: the machine can be examined all the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from trainer.compose import composed
from trainer.config.check import batch_problems
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.config.sections import RunSection
from trainer.doctor.checks import Finding
from trainer.doctor.checkup import examine
from trainer.doctor.submitted import examine_in_job
from trainer.doctor.table import print_findings
from trainer.ending import KEYBOARD, explain
from trainer.errors import ConfigError, KeelError
from trainer.kinds import CONFIG
from trainer.pipeline.run import claim_directory
from trainer.terminal import prepare


def config_of(overrides: Sequence[str]) -> RunConfig:
    """The config that `python -m trainer` with these overrides would run, in a directory of the doctor's own.

    Raises:
        ConfigError: with every problem found, unless all of them are batch sizes.
    """
    values = composed(overrides)
    try:
        config = load_config(values)
    except ConfigError as error:
        try:
            config = TypeAdapter(CONFIG).validate_python(values)
        except ValidationError:
            raise error from None
        if set(error.problems) - set(batch_problems(config)):
            raise
    name = f"doctor/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
    run = RunSection(name=name)  # type: ignore[call-arg]  # mypy does not read pydantic's Field(min_length=...)
    return replace(config, run=run)


def batch_advice(config: RunConfig) -> list[Finding]:
    """What the run itself would be refused for, and the machine need not be."""
    told = [problem.partition("; ") for problem in batch_problems(config)]
    return [Finding("batch size", what, fix, "advice") for what, _, fix in told]


def check_up(config: RunConfig) -> list[Finding]:
    """Examine the machine that the config names. What was written is removed again when all is well."""
    run_dir = claim_directory(config)
    if config.launcher.submits and config.launcher.scheduler is not None:
        findings = examine_in_job(config.launcher.scheduler, run_dir)
    else:
        findings = examine(config, run_dir)
    if not any(finding.is_fault for finding in findings):
        shutil.rmtree(run_dir, ignore_errors=True)
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own with more options of the groups")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what you would give to python -m trainer")
    given = parser.parse_args(arguments)
    try:
        own = [] if given.config_dir is None else ["--config-dir", given.config_dir]
        config = config_of([*own, *given.overrides])
        findings = [*batch_advice(config), *check_up(config)]
    except KeelError as error:
        return explain(error)
    except KeyboardInterrupt:
        return KEYBOARD
    print_findings(findings, Console())
    return 1 if any(finding.is_fault for finding in findings) else 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
