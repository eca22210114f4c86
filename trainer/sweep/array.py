"""The runs of a sweep as one job array: submit those that are neither done nor under way; wait for them if asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from launchers.jobs import recorded_jobs
from trainer.config.bases import Scheduler
from trainer.errors import ConfigError, KeelError, StageFailed
from trainer.pipeline.run import is_finished
from trainer.sweep.journal import Journal
from trainer.sweep.points import Point, claim_all
from trainer.sweep.table import Row, print_table

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two questions to the scheduler
_SILENCES = 20  # questions in a row without an answer, after which waiting ends


def submit(scheduler: Scheduler, points: Sequence[Point], journal: Journal, directory: Path) -> None:
    """Submit the holes of the sweep as one array, and print what was and was not submitted.

    Args:
        directory: where the array's script and logs go.

    Raises:
        ConfigError: the runs cannot be one array.
        StageFailed: the scheduler is not there or refused.
    """
    active, known = scheduler.active(), journal.entries()
    rows: dict[str, Row] = {}
    for point in points:
        if job := _active_job(point, active):
            rows[point.name] = Row(point.name, active[job].lower(), point.run_dir, job)
        elif point.kept:
            rows[point.name] = Row(point.name, "kept", point.run_dir)
        recorded = known.get(point.name)
        if point.name in rows and (recorded is None or (job and recorded.job != job)):  # started by itself, outside a sweep
            journal.append(point.entry(rows[point.name].state, job))
    holes = [point for point in points if point.name not in rows]
    lines = [f"every run is done or under way: nothing to submit; {journal.path} is the journal"]
    if holes:
        if any(point.config.launcher != holes[0].config.launcher for point in holes):
            raise ConfigError(
                "launcher: it differs between the runs of this sweep, and the jobs of an array are alike; "
                "sweep the rest for one launcher at a time."
            )
        claim_all(holes)
        submission = scheduler.submit_array(holes[0].config, [point.run_dir for point in holes], directory)
        for index, point in enumerate(holes):
            job = submission.job_of(index)
            journal.append(point.entry("submitted", job))
            rows[point.name] = Row(point.name, "submitted", point.run_dir, job)
        lines = [*scheduler.follow(submission), f"sweep:     python -m trainer.sweep {journal.path.parent}"]
    print_table(f"{journal.path.parent.name}: {len(points)} runs, {len(holes)} submitted", [rows[p.name] for p in points])
    print("\n".join(lines), flush=True)


def wait_for(scheduler: Scheduler, points: Sequence[Point], journal: Journal) -> dict[str, KeelError]:
    """Wait until no job of these runs is pending or running; as many days as it takes.

    Returns:
        point -> why it is not finished.

    Raises:
        StageFailed: the scheduler has stopped answering; the jobs go on.
        KeyboardInterrupt: the user has seen enough; the jobs go on.
    """
    try:
        _wait(scheduler, points)
    except BaseException:
        print("\nthe jobs go on without this process; the same command finds them again", flush=True)
        raise
    failures: dict[str, KeelError] = {}
    for point in points:
        done = is_finished(point.config)
        if not done:
            jobs = recorded_jobs(point.run_dir)
            failures[point.name] = StageFailed(f"{point.name}: job {jobs[-1] if jobs else '?'} ended and the run is not done.")
            print(failures[point.name], flush=True)
        journal.append(point.entry("done" if done else "failed"))
    return failures


def _wait(scheduler: Scheduler, points: Sequence[Point]) -> None:
    pause, silences, shown = _FIRST_PAUSE, 0, ""
    while True:
        try:
            active = scheduler.active()
            silences = 0
        except StageFailed:
            silences += 1
            if silences > _SILENCES:
                raise
        else:
            states = Counter(active[job].lower() for point in points if (job := _active_job(point, active)))
            if not states:
                return
            counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            if counts != shown:
                print(f"waiting for jobs: {counts}", flush=True)
                pause, shown = _FIRST_PAUSE, counts
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 1.5 * pause)


def _active_job(point: Point, active: dict[str, str]) -> str | None:
    return next((job for job in recorded_jobs(point.run_dir) if job in active), None)
