"""Pairs of a file, read as a run reads them."""

from __future__ import annotations

from typing import Any

from trainer.data.preferences import Preferences
from trainer.kinds import FORMATS


def read(format: str, path: str, **more: Any) -> Preferences:
    cls: Any = FORMATS[format]
    found: Preferences = cls(format=format, path=path, **more).read(0)
    return found
