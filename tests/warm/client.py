"""Runs without the seconds that every interpreter spends on imports: what tests call in place of the command line."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Zygote:
    """The process that drivers are forked from, started at first use; one for a test session."""

    def __init__(self) -> None:
        self.place = tempfile.TemporaryDirectory(prefix="warm")
        self.address = f"{self.place.name}/socket"
        self.log = Path(self.place.name, "log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm.zygote", self.address],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": self.place.name},  # for directories that libraries make when they are imported
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        while True:
            assert self.process.poll() is None, f"the process that runs are forked from ended:\n{self.log.read_text()}"
            try:
                connection.connect(self.address)
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.05)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.place.cleanup()


@cache
def zygote() -> Zygote:
    return Zygote()


def end_zygote() -> None:
    if zygote.cache_info().currsize:
        zygote().end()
        zygote.cache_clear()


class Started:
    """A run under way, as `subprocess.Popen` shows one. Attributes: pid; returncode, -9 where it did not end by itself."""

    def __init__(self, overrides: tuple[str, ...], cwd: Path, environment: dict[str, str], inject: str | None):
        descriptor, name = tempfile.mkstemp(dir=zygote().place.name)
        os.close(descriptor)
        self.file = Path(name)
        self.returncode: int | None = None
        self.connection = zygote().connect()
        request = {
            "overrides": overrides,
            "cwd": str(cwd),
            "environment": {**os.environ, "HF_HUB_OFFLINE": "1", **environment},
            "output": name,
            "inject": inject,
        }
        self.connection.sendall(f"{json.dumps(request)}\n".encode())
        self.lines = self.connection.makefile("r")
        self.pid = int(self.lines.readline())

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.file.read_text()

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self._ended(0)

    def communicate(self, timeout: float) -> tuple[str, None]:
        """Wait for the end. Returns what it printed."""
        if self._ended(timeout) is None:
            os.kill(self.pid, signal.SIGKILL)  # its ranks end with it
            raise AssertionError(f"still running after {timeout} s:\n{self.output[-4000:]}")
        return self.output, None

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None:
            readable, _, _ = select.select([self.connection], [], [], timeout)
            if readable:
                self.returncode = int(self.lines.readline() or -signal.SIGKILL)
        return self.returncode


def start_warm(*overrides: str, cwd: Path, inject: str | None = None, **environment: str) -> Started:
    """`start_keel`, forked. inject: a module whose `disturb(stage)` is called in every rank before it begins."""
    return Started(overrides, cwd, environment, inject)


def warm_keel(*overrides: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """`keel`, forked: run it to its end and return what it printed; fails the test on another exit code."""
    process = start_warm(*overrides, cwd=cwd, **environment)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, f"exit {process.returncode}, expected {code}:\n{output[-4000:]}"
    return output


def stop_warm(*overrides: str, cwd: Path, metrics: Path, step: int) -> None:
    """Starts it, and asks it to stop once this step stands in that file; fails the test unless it then exits with 75."""
    process = start_warm(*overrides, cwd=cwd)
    deadline = time.monotonic() + 200
    while not (metrics.exists() and f'"step": {step}' in metrics.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, process.output
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 75, output
