"""What a run will need: `python -m trainer.plan experiment=paper/cosalign launcher=slurm launcher.nodes=2 evaluation=none`.

Takes the overrides of `python -m trainer`, starts nothing, needs no GPU and no network. Exit status: 0, also where
`launcher.gpu` is not set and so nothing can be said about fitting; 2 when the config is wrong or the run cannot fit. Where
only the evaluation's inputs are missing, the plan is shown as well. With -m, the runs of a sweep, each checked, and the plan of
the first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainer.compose import composed, points_of
from trainer.config.load import load_config
from trainer.errors import ConfigError, KeelError
from trainer.kinds import CONFIG
from trainer.plan.plan import make_plan
from trainer.plan.report import print_plan
from trainer.terminal import prepare

_SWEEP = ("-m", "--multirun")
NOT_PLANNED = ("evaluation.", "judge.", "judge:")  # sections that a plan does not depend on: planned all the same


def main(arguments: Sequence[str]) -> int:
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__)
        return 0
    try:
        if any(argument in _SWEEP for argument in arguments):
            return _plan_sweep([argument for argument in arguments if argument not in _SWEEP])
        return _plan(composed(arguments))
    except KeelError as error:
        _print_problems(error.problems if isinstance(error, ConfigError) else [str(error)], "with this config")
        return error.exit_code


def _plan_sweep(arguments: Sequence[str]) -> int:
    """The runs of a sweep, each checked, and the plan of the first."""
    points = {name: composed(overrides) for name, overrides in points_of(arguments).items()}
    affected: dict[str, list[str]] = {}
    for name, values in points.items():
        try:
            load_config(values)
        except ConfigError as error:
            for problem in error.problems:
                affected.setdefault(problem, []).append(name)
    if affected:
        raise ConfigError([f"{problem} (at {'; '.join(names[:3])})" for problem, names in affected.items()])
    print(f"{len(points)} runs:", *(f"  {name}" for name in points), "\nThe plan of the first:", sep="\n", flush=True)
    return _plan(next(iter(points.values())))


def _plan(values: dict[str, Any]) -> int:
    missing: list[str] = []
    try:
        config = load_config(values)
    except ConfigError as error:
        if not all(problem.startswith(NOT_PLANNED) for problem in error.problems):
            raise
        try:
            missing, config = error.problems, TypeAdapter(CONFIG).validate_python(values)
        except ValidationError:
            raise error from None
    plan = make_plan(config)
    print_plan(plan)
    if missing:
        _print_problems(missing, "before this can start")
    return 0 if plan.fits and not missing else 2


def _print_problems(problems: Sequence[str], where: str) -> None:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print(f"\n{count} {where}:", *(f"  - {line}" for line in problems), sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    prepare()
    sys.exit(main(sys.argv[1:]))
