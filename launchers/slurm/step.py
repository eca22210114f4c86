"""One srun: start it, pass on what it would not hear, and learn how it ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO

from trainer.stopping import STOP_SIGNALS

_POLL = 0.2  # seconds

_ENDED = re.compile(r"srun: error: \S+: tasks? ([\d,-]+): (.+)")
_AFTERMATH = re.compile(r"Terminating (StepId|job step)|CANCELLED AT")  # what ends from here on was ended by Slurm
_SIGNALS = {"Killed": 9, "Terminated": 15, "Segmentation fault": 11, "Aborted": 6, "User defined signal 2": 12, "Bus error": 7}


@dataclass(frozen=True)
class Ended:
    """How a step ended.

    Attributes:
        code: srun's exit code.
        signals: the stop signals that this process received meanwhile.
        tasks: task -> exit code (negative: a signal) of those that srun saw end badly before any was ended by Slurm.
    """

    code: int
    signals: tuple[int, ...]
    tasks: dict[int, int]


def run_step(command: Sequence[str], environment: Mapping[str, str], told_by_slurm: Callable[[], bool], grace: float) -> Ended:
    """Run srun to its end. TERM and USR2 to this process do not end it: they stop the tasks, which save first.

    Args:
        told_by_slurm: asked when TERM has come: whether Slurm sent it, and so has told the tasks by itself.
        grace: seconds for the tasks to stop after Ctrl-C, before they are killed.

    Raises:
        KeyboardInterrupt: after the tasks have ended.
    """
    tasks: dict[int, int] = {}
    with _remembered() as seen:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the tasks in order
        )
        assert process.stderr is not None
        reader = threading.Thread(target=_read, args=(process.stderr, tasks), daemon=True)
        reader.start()
        passed_on = False
        try:
            while True:
                try:
                    process.wait(_POLL)
                    break
                except subprocess.TimeoutExpired:
                    pass
                if seen and not passed_on:
                    passed_on = True
                    if signal.SIGUSR2 in seen or not told_by_slurm():
                        process.send_signal(signal.SIGUSR2)  # srun hands this one to every task
        except KeyboardInterrupt:
            process.send_signal(signal.SIGUSR2)
            _end(process, grace)
            raise
        finally:
            _end(process, 0)
        reader.join(timeout=5)
        return Ended(process.returncode, tuple(seen), tasks)


@contextmanager
def _remembered() -> Iterator[list[int]]:
    """The stop signals that arrive in this block, in order, in place of what they would do."""
    seen: list[int] = []

    def remember(signum: int, _frame: FrameType | None) -> None:
        seen.append(signum)

    previous = {number: signal.signal(number, remember) for number in STOP_SIGNALS}
    try:
        yield seen
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Give srun `grace` seconds, then ask it to kill its tasks, then kill it."""
    for wait, then in ((grace, process.terminate), (10.0, process.kill)):
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            then()
    process.wait()


def _read(stream: IO[bytes], tasks: dict[int, int]) -> None:
    """Copy srun's stderr to ours, and note which tasks it says ended badly."""
    rest, aftermath = "", False
    while chunk := os.read(stream.fileno(), 1 << 16):
        sys.stderr.write(chunk.decode(errors="replace"))
        sys.stderr.flush()
        *lines, rest = (rest + chunk.decode(errors="replace")).split("\n")
        for line in lines:
            aftermath = aftermath or _AFTERMATH.search(line) is not None
            if not aftermath and (found := _ENDED.search(line)):
                for task in expand(found.group(1)):
                    tasks.setdefault(task, code_of(found.group(2)))


def expand(numbers: str) -> list[int]:
    """`0,2-4` -> 0, 2, 3, 4."""
    found: list[int] = []
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def code_of(words: str) -> int:
    """How a task ended, in srun's words -> its exit code; negative is a signal."""
    if found := re.search(r"exit code (\d+)", words):
        return int(found.group(1))
    return -next((number for name, number in _SIGNALS.items() if words.startswith(name)), int(signal.SIGKILL))
