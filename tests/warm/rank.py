"""A rank that is forked where the product would start an interpreter; to its launcher it looks like a `subprocess.Popen`."""

from __future__ import annotations

import atexit
import importlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import datasets.fingerprint
import numpy
import torch
from wandb.sdk.data_types._private import MEDIA_TMP

from tests.warm.process import call_oneself
from trainer.stopping import STOP_SIGNALS
from trainer.worker import main

NAME = "keel-rank"  # of the process


class ForkedRank:
    """As much of `subprocess.Popen` as a launcher uses. Attributes: pid; returncode, negative for a signal."""

    def __init__(self, body: Callable[[], int]):
        """Fork; returns once the child leads its own session and hears signals for itself."""
        self.returncode: int | None = None
        ready, tell = os.pipe()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until the launcher's handlers are gone from it
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.close(tell)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _end_with(body)
        os.close(tell)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.read(ready, 1)
        os.close(ready)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(NAME, timeout)
            time.sleep(0.01)
        return code


def start_rank(
    run_dir: Path, stage: str, environment: Mapping[str, str], *, inject: str | None, not_for_ranks: socket.socket
) -> ForkedRank:
    """In place of `launchers.processes.start_rank`.

    Args:
        inject: a module whose `disturb(stage)` is called in the rank before it begins.
        not_for_ranks: closed in the rank.
    """

    def body() -> int:
        call_oneself(NAME)
        not_for_ranks.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["trainer.worker", str(run_dir), stage]
        replace_environment(environment)
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
        _be_fresh()
        if inject is not None:
            importlib.import_module(inject).disturb(stage)
        return main(run_dir, stage)

    return ForkedRank(body)


def replace_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _be_fresh() -> None:
    """What a fresh interpreter takes from the system. Torch's own seed is the same in every fresh process."""
    random.seed()
    numpy.random.seed()
    datasets.fingerprint.fingerprint_rng.seed()
    tempfile.tempdir = None
    MEDIA_TMP.__init__("wandb-media")  # the directory that wandb makes when it is imported, and removes at the end


def _end_with(body: Callable[[], int]) -> NoReturn:
    """Run it and end the process as the interpreter would; nothing of the launcher's stack is unwound."""
    code = 1
    try:
        code = body()
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
