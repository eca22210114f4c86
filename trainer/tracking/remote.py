"""W&B on a thread of its own: what it raises ends the tracking and nothing else, and where it hangs, nobody waits for it."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from trainer.children import children_of

_WAITING = 100_000  # rows that may wait for a W&B that does not take them
_FORGETTING = 5.0  # seconds


class Remote:
    """A W&B run that is begun, fed and finished in the background. Attribute lost: why it is no more; None as long as it is."""

    def __init__(self, begin: Callable[[], Any]):
        """begin: makes the run."""
        self.lost: str | None = None
        self._work: queue.Queue[Callable[[Any], None] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._feed, args=(begin,), name="W&B", daemon=True)
        self._thread.start()

    def do(self, step: Callable[[Any], None]) -> None:
        """Have this done with the run, after all that was asked before."""
        if self.lost is None:
            try:
                self._work.put_nowait(step)
            except queue.Full:
                self._lose(f"W&B has not taken the last {_WAITING} entries")

    def close(self, finish: Callable[[Any], None], patience: float) -> None:
        """Finish the run, or give it up.

        Args:
            patience: seconds that it may take, with all that still waits.
        """
        if self.lost is None:
            self.do(finish)
            self.do(_stop)
            self._thread.join(patience)
            if self._thread.is_alive():
                self._lose(f"W&B did not finish in {patience:.0f} s")
        if self.lost is not None:  # or this process would wait for it, and complain, at its own end
            forget = threading.Thread(target=_forget, daemon=True)
            forget.start()
            forget.join(_FORGETTING)

    def _feed(self, begin: Callable[[], Any]) -> None:
        try:
            run = begin()
            while self.lost is None and (step := self._work.get()) is not None:
                step(run)
                if step is _stop:
                    return
        except Exception as error:
            if self.lost is None:
                self._lose(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'without a message'}")

    def _lose(self, why: str) -> None:
        self.lost = why
        print(f"tracking: W&B is lost ({why}); the run goes on, and metrics.jsonl has everything", file=sys.stderr, flush=True)
        for child in children_of(psutil.Process()):
            try:
                if child.name().startswith("wandb-core"):
                    child.kill()
            except psutil.Error:
                continue


def _forget() -> None:
    if (wandb := sys.modules.get("wandb")) is not None:
        with suppress(Exception):  # it is gone already
            wandb.teardown(exit_code=1)


def _stop(_run: Any) -> None:
    """The last step."""
