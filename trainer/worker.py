"""One rank of one stage: `python -m trainer.worker RUN_DIR STAGE`. Started by a launcher, never by hand.

It reads the resolved config from the run directory, so nothing is composed here and all ranks agree.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.errors import Interrupted, KeelError
from trainer.stopping import Terminated, stop_request


def _prepare_process(run_dir: Path, stage: str) -> None:
    """Settings that must stand before torch or DeepSpeed is imported."""
    stop_request.install()
    os.umask(os.umask(0o077) | 0o022)  # nobody else writes into a checkpoint that this user will load
    if os.environ["RANK"] != "0":
        log = (run_dir / stage / "logs" / f"rank{os.environ['RANK']}.log").open("ab")
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]  # a job's log is up to date
    if not sys.stderr.isatty():
        sys.stderr = _Lines(sys.stderr)  # type: ignore[assignment]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("WANDB_SILENT", "true")  # the start line and the report say where things are
    if os.environ["RANK"] == "0":  # in a terminal a bar redraws; in a log file it writes a line now and then
        os.environ.setdefault("TQDM_MININTERVAL", "0.5" if sys.stderr.isatty() else "15")
        os.environ.setdefault("TQDM_DYNAMIC_NCOLS", "1")
    else:
        os.environ["TQDM_DISABLE"] = "1"
    if sys.platform == "linux":  # do not outlive the launcher, however it dies
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG


class _Lines:
    """A log: what would be drawn anew in a terminal is a line of its own there."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> Any:
        return self._stream.write(text.replace("\r", "\n"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _as_known(stage: str, error: BaseException) -> BaseException:
    if isinstance(error, Terminated):
        return Interrupted(f"stage {stage}: stopped by {error} where there was nothing to save; the same command continues.")
    return error


def _write_error(path: Path, rank: int, error: BaseException) -> None:
    # A rank that only lost its peer is not the cause; the launcher prefers the others.
    text = str(error)
    secondary = any(word in text for word in ("Connection closed by peer", "Connection reset", "Broken pipe", "NCCL"))
    known = isinstance(error, KeelError)
    record = {
        "rank": rank,
        "time": time.time(),
        "type": type(error).__name__,
        "message": text,
        "secondary": secondary or isinstance(error, Interrupted),
        "traceback": "" if known else "".join(traceback.format_exception(error)),
    }
    with suppress(OSError):  # on a full disk the exit code must do
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


def main(run_dir: Path, stage_name: str) -> int:
    rank = int(os.environ["RANK"])
    try:
        _prepare_process(run_dir, stage_name)
        from trainer.rank import run_stage  # once signals are handled and output goes where it should

        run_stage(run_dir, stage_name)
    except BaseException as raised:
        error = _as_known(stage_name, raised)
        _write_error(run_dir / stage_name / "errors" / f"rank{rank}.json", rank, error)
        if rank != 0 or not isinstance(error, KeelError):
            traceback.print_exc()
        # Leave at once: an orderly exit would wait in a collective for ranks that may never come.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.exit_code if isinstance(error, KeelError) else 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
