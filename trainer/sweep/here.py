"""The runs of a sweep one after another, from this process: on this machine, or in this Slurm allocation."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.compare.of_run import leave_report
from trainer.ending import explain
from trainer.errors import Interrupted, KeelError, StageFailed
from trainer.pipeline.run import carry_out
from trainer.sweep.journal import Journal
from trainer.sweep.points import Point, claim_all
from trainer.sweep.table import Row, print_table


def run_here(points: Sequence[Point], journal: Journal, report: bool) -> dict[str, KeelError]:
    """Carry out every run that is not done. One that fails does not end the sweep.

    Args:
        report: print a table of all runs at the end, however it comes.

    Returns:
        point -> why it failed.
    """
    kept = {point.name for point in points if point.kept}
    claim_all([point for point in points if point.name not in kept])
    states = {point.name: "kept" if point.name in kept else "not started" for point in points}
    failures: dict[str, KeelError] = {}

    def record(point: Point, state: str) -> None:
        states[point.name] = state
        journal.append(point.entry(state))

    known = journal.entries()
    for point in points:
        if point.name in kept and point.name not in known:
            record(point, "kept")
    try:
        for number, point in enumerate(points, start=1):
            note = " · finished before and unchanged: kept" if point.name in kept else ""
            print(f"\n{number} of {len(points)} · {point.config.run.name}{note}", flush=True)
            if note:
                continue
            try:
                carry_out(point.config, point.run_dir)
                record(point, "done")
                leave_report(point.run_dir)
            except (Interrupted, KeyboardInterrupt):
                record(point, "interrupted")
                raise
            except (KeelError, OSError) as error:
                failures[point.name] = error if isinstance(error, KeelError) else StageFailed(str(error))
                explain(failures[point.name])
                record(point, "failed")
    finally:
        if report:
            rows = [Row(point.name, states[point.name], point.run_dir) for point in points]
            print_table(f"{journal.path.parent.name}: {len(points)} runs", rows)
    return failures
