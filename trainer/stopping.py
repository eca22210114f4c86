"""Signals: TERM and USR2 ask a rank to stop. In training that happens at the next step, on all ranks; elsewhere at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Terminated(BaseException):
    """A stop signal arrived where stopping at once is safe; unwinds like KeyboardInterrupt and closes what is open."""


class StopRequest:
    """What the signal handler leaves behind: only a flag, since saving inside a handler can corrupt or hang.

    Attributes:
        signal: the name of the first stop signal that arrived, or None.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._deferred = False

    def install(self) -> None:
        """Handle the stop signals of this process from now on."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(signum).name
        if not self._deferred:
            raise Terminated(self.signal)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block a signal only leaves its name; the block asks for it where it can stop."""
        if self.signal is not None:
            raise Terminated(self.signal)
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False


stop_request = StopRequest()  # one per process, as signal handlers are
