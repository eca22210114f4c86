"""A stage that hangs ends in minutes, with the stack of every rank that still answers; without this, one rank that has stopped
would hold up the others for an hour in training, and for a day in an evaluation.

What counts is a sign of life of any rank: one that waits in a collective has none, and is right to wait while another works.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType

import psutil
import torch.distributed as dist

from trainer.children import children_of

_FRAMES = 12  # innermost, of each thread
_TICK = 5.0  # seconds between two looks, at most
_WORKS = 0.01  # share of the time for which a rank that works has a processor
_MOVES = 1 << 20  # bytes between two looks that a rank that reads or writes has moved
_COLLECTIVES = ("torch/distributed", "deepspeed/comm")
_BEATS = "keel/beats"  # in the store of the process group: the signs of life of all ranks, counted


class Watchdog:
    """Watches the main thread of the process that it is made in.

    Within a step of training nothing but `beat` is a sign of life. Elsewhere (loading, saving, generating, judging) it is one
    that the main thread, outside every collective, uses a processor or moves data, or that a process it has started does. Time
    in which this process does not run (a suspended job) is not silence.
    """

    def __init__(self, report: Path, rank: int, timeout: float):
        """timeout: seconds without a sign of life. report: where the last words go, for the launcher."""
        self.report = report
        self.rank = rank
        self.timeout = timeout
        self.in_step = False
        self._main_thread = threading.get_ident()
        self._beats = self._told = self._added = self._heard = 0
        self._done = threading.Event()

    def beat(self) -> None:
        self._beats += 1

    def watch(self, world_size: int) -> None:
        """From now on, until the block of this watchdog ends."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        if world_size > 1:
            threading.Thread(target=self._exchange, name="watchdog's exchange", daemon=True).start()

    def __enter__(self) -> Watchdog:
        global _current
        _current = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _current
        _current = None
        self._done.set()

    def _watch(self) -> None:
        silence, seen = Silence(), (self._beats, self._heard)
        works = _Work(self._main_thread)
        while not self._done.wait(min(_TICK, self.timeout / 10)):
            if works.moved() and not self.in_step and not self._in_collective():
                self.beat()
            now = (self._beats, self._heard)
            silent = silence.after(time.monotonic(), now != seen, 3 * min(_TICK, self.timeout / 10))
            seen = now
            if silent > self.timeout:
                self._end(silent)

    def _exchange(self) -> None:
        """Tell the others of signs of life, and hear of theirs: one number that all of them raise. On a thread of its own:
        a server that has stopped would stop it."""
        store = None
        while not self._done.wait(min(2 * _TICK, self.timeout / 10)):
            try:
                store = store or _store()
                now = self._beats
                news = int(now != self._told)
                count = store.add(_BEATS, news)
                self._told, self._added = now, self._added + news
                self._heard = count - self._added
            except (RuntimeError, OSError):  # the server is gone: the collectives say so
                store = None

    def _in_collective(self) -> bool:
        frame = sys._current_frames().get(self._main_thread)
        while frame is not None:
            if _is_collective(frame.f_code.co_filename):
                return True
            frame = frame.f_back
        return False

    def _end(self, silent: float) -> None:
        stacks = {thread: traceback.extract_stack(frame)[-_FRAMES:] for thread, frame in sys._current_frames().items()}
        record = {
            "rank": self.rank,
            "time": time.time(),
            "type": "Hung",
            "message": f"no step for {silent:.0f} s",
            "seconds": silent,
            "secondary": False,
            "in_collective": any(_is_collective(frame.filename) for frames in stacks.values() for frame in frames),
            "traceback": "".join(traceback.format_list(stacks[self._main_thread])),
        }
        with suppress(OSError):  # on a full disk it ends without last words
            self.report.parent.mkdir(parents=True, exist_ok=True)
            self.report.write_text(json.dumps(record))
        os._exit(1)  # the main thread is stuck: nothing orderly is left to do


class Silence:
    """How long there was none, in the time in which this process ran."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._last: float | None = None

    def after(self, now: float, alive: bool, longest: float) -> float:
        """Seconds of silence by `now`.

        Args:
            longest: between two calls; what is more was a time in which nothing ran.
        """
        passed = 0.0 if self._last is None else min(now - self._last, longest)
        self._last = now
        self._seconds = 0.0 if alive else self._seconds + passed
        return self._seconds


class _Work:
    """What a thread, and the processes that this one has started, have done since the last look."""

    def __init__(self, thread: int):
        self._clock: Callable[[], float] = lambda: time.clock_gettime(time.pthread_getcpuclockid(thread))
        self._process = psutil.Process()
        self._last = (time.monotonic(), self._clock() + self._children(), self._bytes())

    def moved(self) -> bool:
        then, worked, moved = self._last
        self._last = now, *_ = (time.monotonic(), self._clock() + self._children(), self._bytes())
        return self._last[1] - worked > _WORKS * (now - then) or self._last[2] - moved > _MOVES

    def _children(self) -> float:
        seconds = 0.0
        for child in children_of(self._process):
            try:
                if not child.name().startswith("wandb"):
                    seconds += sum(child.cpu_times()[:2])
            except psutil.Error:
                continue
        return seconds

    def _bytes(self) -> int:
        try:
            counts = self._process.io_counters()
        except (psutil.Error, OSError):
            return 0
        return int(counts.read_bytes + counts.write_bytes + counts.read_chars + counts.write_chars)


_current: Watchdog | None = None  # of this process


def beat() -> None:
    """A sign of life: to be given now and then by whatever takes long."""
    if _current is not None:
        _current.beat()


def in_step(now: bool) -> None:
    """Say that a step of training begins, or has ended."""
    if _current is not None:
        _current.in_step = now
        _current.beat()


def _is_collective(filename: str) -> bool:
    return any(part in filename for part in _COLLECTIVES)


def _store() -> dist.Store:
    """A connection of its own to the server that the process group was made with: the others' may be in use."""
    timeout = timedelta(seconds=30)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False, timeout=timeout, wait_for_workers=False)
