"""A hung step ends the run in minutes, with the stack of every rank that still answers; NCCL alone would wait half an hour."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

_FRAMES = 12  # innermost, of each thread


class WatchdogCallback(TrainerCallback):
    """A thread on every rank that expects a sign of life from training: a micro-step, a step, a block of rows
    that are held out, a log line, a save.

    Waiting for a collective lets Python threads run, so a rank that waits for a lost peer still reports. The launcher reads
    the reports and names the rank that stood elsewhere, or did not report.
    """

    def __init__(self, report: Path, rank: int, timeout: float):
        self.report = report
        self.rank = rank
        self.timeout = timeout
        self._alive = time.monotonic()
        self._done = threading.Event()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._main_thread = threading.get_ident()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Training is over, whether it ended or failed: no sign of life will come."""
        self._done.set()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def _beat(self, *_args: Any, **_kwargs: Any) -> None:
        self._alive = time.monotonic()

    on_step_begin = on_substep_end = on_step_end = on_prediction_step = on_log = on_save = _beat

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self.timeout / 10)):
            silent = time.monotonic() - self._alive
            if silent > self.timeout:
                self._end(silent)

    def _end(self, silent: float) -> None:
        stacks = {thread: traceback.extract_stack(frame)[-_FRAMES:] for thread, frame in sys._current_frames().items()}
        record = {
            "rank": self.rank,
            "time": time.time(),
            "type": "Hung",
            "message": f"no step for {silent:.0f} s",
            "seconds": silent,
            "secondary": False,
            "in_collective": any("torch/distributed" in f.filename for frames in stacks.values() for f in frames),
            "traceback": "".join(traceback.format_list(stacks[self._main_thread])),
        }
        self.report.parent.mkdir(parents=True, exist_ok=True)
        self.report.write_text(json.dumps(record))
        os._exit(1)  # the main thread is stuck: nothing orderly is left to do
