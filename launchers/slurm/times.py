"""Slurm's way to write a time limit."""

from __future__ import annotations

import re

_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?", re.ASCII)
_SHORT = re.compile(r"(?:(\d+):)??(\d+)(?::(\d+))?", re.ASCII)


def seconds_of(time: str) -> int | None:
    """`30` (minutes), `30:00`, `2:30:00`, `1-12`, `1-12:30`, `1-12:30:00` -> seconds; None for anything else."""
    if found := _DAYS.fullmatch(time):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    elif found := _SHORT.fullmatch(time):
        days, (hours, minutes, seconds) = 0, (int(part or 0) for part in found.groups())
    else:
        return None
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
