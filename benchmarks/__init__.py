"""Measurements against the obvious alternatives: `python -m benchmarks.NAME [--smoke] [--json FILE]`."""

import os
import sys

from launchers.allocator import kept_memory

# What is compared with a run keeps memory as the run's ranks do; that is decided when a process starts.
if sys.argv[0] == "-m" and (missing := kept_memory(os.environ)):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})
