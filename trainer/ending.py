"""How a command ends when something went wrong: in words, and as the exit status that `trainer/errors.py` documents."""

from __future__ import annotations

import sys

from trainer.errors import ConfigError, Interrupted, KeelError

KEYBOARD = 130
CONTINUES = "stopped; the same command continues from here"


def explain(error: KeelError) -> int:
    """Print an error for the user, every problem of a config on a line of its own. Returns the exit status."""
    lines = error.problems if isinstance(error, ConfigError) else [str(error)]
    title = f"{len(lines)} problems with this config" if len(lines) > 1 else type(error).__name__
    print(f"\n{title}:", *(f"  - {line}" for line in lines), sep="\n", file=sys.stderr, flush=True)
    if isinstance(error, Interrupted):
        print(f"\n{CONTINUES}", file=sys.stderr, flush=True)
    return error.exit_code
