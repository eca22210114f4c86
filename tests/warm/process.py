"""Bonds between processes, on Linux."""

from __future__ import annotations

import ctypes
import signal

_SET_DEATH_SIGNAL, _SET_NAME = 1, 15  # of prctl


def die_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this signal to this process when its parent ends, however it ends."""
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, number)


def call_oneself(name: str) -> None:
    """The name that `ps` and `psutil.Process.name` show; 15 characters at most."""
    ctypes.CDLL(None).prctl(_SET_NAME, name.encode())
