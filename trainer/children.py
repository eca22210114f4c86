"""The processes that one has started, as far as the system lets them be seen."""

from __future__ import annotations

import psutil


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """With those that they have started. Empty where /proc hides the processes of other users (hidepid=1)."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
