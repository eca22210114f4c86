"""Nearest names, for messages about a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """`did you mean a or b?`, or where nothing is near, `otherwise` (default: the list of what is known)."""
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.55)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return otherwise or f"known: {', '.join(options)}."
