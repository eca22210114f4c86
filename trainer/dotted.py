"""Names in place of imports: what only ranks need is named where it is declared, and imported where it runs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def resolve(name: str) -> Any:
    """`package.module:attribute` -> the attribute."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
