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
from pathlib import Path
from types import FrameType

from trainer.errors import KeelError


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt, so that files and W&B are closed."""


def _prepare_process() -> None:
    """Settings that must stand before torch or DeepSpeed is imported."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("WANDB_SILENT", "true")  # the start line and the report say where things are
    if os.environ["RANK"] == "0":  # in a terminal a bar redraws; in a log file it writes a line now and then
        os.environ.setdefault("TQDM_MININTERVAL", "0.5" if sys.stderr.isatty() else "15")
        os.environ.setdefault("TQDM_DYNAMIC_NCOLS", "1")
    else:
        os.environ["TQDM_DISABLE"] = "1"
    if sys.platform == "linux":  # do not outlive the launcher, however it dies
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG

    def stop(_signum: int, _frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, stop)


def _prepare_libraries() -> None:
    import datasets
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # loading and writing shards: seconds, and many bars
    if int(os.environ["RANK"]) != 0 or not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if int(os.environ["RANK"]) != 0:
        transformers.utils.logging.set_verbosity_error()

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed.ops

        # Compiling this op takes most of a minute at every start on CPU, and training never calls it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


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
        "secondary": secondary or isinstance(error, Terminated),
        "traceback": "" if known else "".join(traceback.format_exception(error)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def main(run_dir: Path, stage_name: str) -> int:
    _prepare_process()
    rank = int(os.environ["RANK"])
    try:
        _prepare_libraries()
        from trainer.config.load import read_config
        from trainer.stages.chain import stage_named
        from trainer.stages.context import StageContext

        config = read_config(run_dir / "config.yaml")
        stage = stage_named(config, stage_name)
        with StageContext.of_this_process(config, run_dir, stage_name) as context:
            stage.run(context)
    except BaseException as error:
        _write_error(run_dir / stage_name / "errors" / f"rank{rank}.json", rank, error)
        if rank != 0 or not isinstance(error, KeelError | Terminated):
            traceback.print_exc()
        # Leave at once: an orderly exit would wait in a collective for ranks that may never come.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.exit_code if isinstance(error, KeelError) else 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
