"""A limit for programs that others wrote, as a chat template is one: of time, and of memory."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS = 20.0  # a chat takes microseconds, a long one on a busy machine milliseconds
_MEMORY = 2 << 30  # bytes besides what the process has mapped already
_MAPPED = Path("/proc/self/statm")  # in pages, first of all; Linux alone has it


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Raises TimeoutError in the block when it takes longer, and MemoryError when it asks for more than 2 GiB. Without limits
    outside the main thread, which has the signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise TimeoutError("it does not come to an end")

    before, (soft, hard) = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    waiting, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        if _MAPPED.exists():
            most = int(_MAPPED.read_text().split()[0]) * resource.getpagesize() + _MEMORY
            allowed = [most, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)]
            resource.setrlimit(resource.RLIMIT_AS, (min(allowed), hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if waiting:
            signal.setitimer(signal.ITIMER_REAL, waiting)
