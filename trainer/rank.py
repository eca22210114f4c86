"""What a rank does, once its process is prepared."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import datasets
import torch
import transformers

from trainer.config.load import read_own_config
from trainer.config.zero import zero_stage
from trainer.doctor.examination import DOCTOR_STAGE
from trainer.doctor.preflight import DOCTOR, preflight
from trainer.pipeline.chain import stage_named
from trainer.pipeline.context import StageContext
from trainer.pipeline.do import do
from trainer.pipeline.run import CONFIG
from trainer.pipeline.watchdog import Watchdog


def run_stage(run_dir: Path, name: str) -> None:
    """Do this rank's part of a stage.

    Raises: whatever the stage does.
    """
    config = read_own_config(run_dir / CONFIG)
    stage = DOCTOR_STAGE if name == DOCTOR else stage_named(config, name)
    _prepare_libraries(stage.trains or (stage.distributed and zero_stage(config) == 3))
    context = StageContext.of_this_process(config, run_dir, stage)
    watchdog = Watchdog(context.stage_dir / "errors" / f"rank{context.rank}.json", context.rank, config.survival.hang_timeout)
    with watchdog, context:
        if stage.distributed:
            preflight(context)
        watchdog.watch(context.world_size if stage.distributed else 1)
        do(context)


def _prepare_libraries(deepspeed: bool) -> None:
    if torch.cuda.device_count() == 1:  # a GPU for this task alone is the first that it sees, whatever its rank
        os.environ["LOCAL_RANK"] = "0"
    transformers.utils.logging.disable_progress_bar()  # loading and writing shards: seconds, and many bars
    if int(os.environ["RANK"]) != 0 or not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if int(os.environ["RANK"]) != 0:
        transformers.utils.logging.set_verbosity_error()

    if deepspeed and not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        from deepspeed import ops  # once it knows what it runs on

        # Compiling this op takes most of a minute at every start on CPU, and training never calls it.
        ops.__compatible_ops__["deepspeed_shm_comm"] = False
