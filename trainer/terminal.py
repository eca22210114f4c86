"""Text under any locale: files are UTF-8, and a character that a terminal cannot show does not end a command."""

from __future__ import annotations

import codecs
import locale
import os
import sys
from io import TextIOWrapper

from rich.console import Console

_WIDTH = 110  # of our tables of results


def prepare() -> None:
    """The first thing that a command does: where the locale's encoding is not UTF-8 it begins again in Python's UTF-8 mode, and
    so do the processes that it starts. What it prints stays in the terminal's encoding."""
    if not sys.flags.utf8_mode and codecs.lookup(locale.getencoding()).name != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:replace"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    never_fail()


def never_fail() -> None:
    """From now on stdout shows `?` for what its encoding does not have. (stderr writes an escape for it anyway.)"""
    if isinstance(sys.stdout, TextIOWrapper):  # not pytest's
        sys.stdout.reconfigure(errors="replace")


def table_console(width: int = _WIDTH) -> Console:
    """For tables: as wide as the terminal, or where there is none, so many characters."""
    never_fail()
    console = Console()
    return console if console.is_terminal else Console(width=width)
