"""Several seeds of one experiment as one table: mean and 95% t-interval over seeds, for every model and metric.

    python -m trainer -m experiment=cosalign run.name=seeds seed=0,1,2 launcher.processes=2
    python -m benchmarks.over_seeds runs/seeds [--json FILE]

Takes the directory of a sweep, or those of runs. Runs that differ in more than their seed get a table each. What is no finished
run is passed over, and named. With --smoke only the first two runs are read.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from scipy import stats

from benchmarks.common import Table, options, publish
from trainer.pipeline.places import RESULTS
from trainer.pipeline.run import CONFIG

METRICS = (
    "cosa_score/seen", "cosa_score/unseen", "helpful_safe/seen", "helpful_safe/unseen", "helpful_unsafe/seen",
    "helpful_unsafe/unseen", "asr", "task_accuracy", "over_refusal", "capability", "safety_gain", "alignment_tax", "seconds",
)  # fmt: skip
ALIKE = ("seed", "run", "paths", "launcher", "tracking")  # sections in which the runs of one table may differ
AREA = "guardrail_auc/"
Models = dict[str, dict[str, Any]]


class Run(NamedTuple):
    """setting: its config but for what may differ within a table."""

    directory: Path
    setting: str
    seed: int
    commit: str
    models: Models


def is_run(directory: Path) -> bool:
    return (directory / CONFIG).is_file() and (directory / RESULTS).is_file()


def directories(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The finished runs among these and, where one of them is not a run itself, directly below it; and what is passed over."""
    runs, others = [], []
    for path in given:
        below = [] if is_run(path) or not path.is_dir() else sorted(child for child in path.iterdir() if is_run(child))
        runs += [path] if is_run(path) else below
        others += [] if is_run(path) or below else [path]
    return list(dict.fromkeys(runs)), others


def read(directory: Path) -> Run:
    config = yaml.safe_load((directory / CONFIG).read_text())
    results = json.loads((directory / RESULTS).read_text())
    setting = json.dumps({key: value for key, value in config.items() if key not in ALIKE}, sort_keys=True)
    return Run(directory, setting, config["seed"], results["provenance"]["git_commit"], results["models"])


def cell(runs: Sequence[Run], model: str, metric: str) -> str:
    found = [run.models.get(model, {}).get(metric, {}).get("value") for run in runs]
    values = [value for value in found if value is not None]
    if not values:
        return "-"
    count = "" if len(values) == len(runs) else f" (n = {len(values)})"
    if len(values) == 1:
        return f"{values[0]:.3f}{count}"
    half = float(stats.sem(values)) * float(stats.t.ppf(0.975, len(values) - 1))
    return f"{np.mean(values):.3f} ±{half:.3f}{count}"


def tables(runs: Sequence[Run]) -> list[Table]:
    """Of runs that differ in their seed alone: the models, and the guardrails where there are any."""
    models = list(dict.fromkeys(model for run in runs for model in run.models))
    present = {name for run in runs for scores in run.models.values() for name in scores}
    metrics = [metric for metric in METRICS if metric in present]
    names = f"{runs[0].directory.name}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''}"
    commits = ", ".join(sorted({run.commit for run in runs}))
    caption = f"{names}: seeds {sorted(run.seed for run in runs)}, commit {commits}; mean ± 95% t-interval over seeds"
    headings = tuple(metric.replace("/", " ").replace("_", " ") for metric in metrics)
    rows = [(model, *(cell(runs, model, metric) for metric in metrics)) for model in models]
    found = [Table(caption, ("model", *headings), rows)]
    if areas := [name.removeprefix(AREA).split("/") for name in sorted(present) if name.startswith(AREA)]:
        sets = list(dict.fromkeys(of_set for _, of_set in areas))
        rows = [
            (guardrail, *(cell(runs, "base", f"{AREA}{guardrail}/{of_set}") for of_set in sets))
            for guardrail in dict.fromkeys(guardrail for guardrail, _ in areas)
        ]
        found.append(Table("area under the ROC curve", ("guardrail", *sets), rows))
    return found


def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("runs", nargs="+", type=Path, metavar="DIRECTORY", help="of a sweep, or of a run")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    runs, others = directories(given.runs)
    if not runs:
        raise SystemExit(f"no finished run in {', '.join(map(str, given.runs))}")
    groups: defaultdict[str, list[Run]] = defaultdict(list)
    for run in map(read, runs[:2] if given.smoke else runs):
        groups[run.setting].append(run)
    passed_over = f"; passed over: {', '.join(path.name for path in others)}" if others else ""
    publish(
        given, "over_seeds", f"{len(runs)} runs{passed_over}", [table for group in groups.values() for table in tables(group)]
    )


if __name__ == "__main__":
    main()
