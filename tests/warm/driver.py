"""What a forked driver does: `python -m trainer OVERRIDES`, whose ranks are forked as well."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from functools import partial
from typing import Any, NoReturn

from launchers import processes
from tests.warm.process import die_with_parent
from tests.warm.rank import replace_environment, start_rank
from trainer.__main__ import main


def drive(request: dict[str, Any], connection: socket.socket) -> NoReturn:
    """Carry out a request and end this process; the exit status, a number on a line, goes through the connection.

    Args:
        request: overrides, cwd, environment (the whole of it), output (a file), inject (a module or None, see rank.py).
    """
    os.setsid()
    die_with_parent(signal.SIGTERM)
    connection.sendall(f"{os.getpid()}\n".encode())
    os.chdir(request["cwd"])
    replace_environment(request["environment"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = ["trainer", *request["overrides"]]
    processes.start_rank = partial(start_rank, inject=request["inject"], not_for_ranks=connection)
    code = 1
    try:
        code = main(request["overrides"])
    except SystemExit as ending:  # Hydra's way out
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(f"{code}\n".encode())
        os._exit(code)
