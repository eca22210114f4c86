"""What a running stage knows: the config, its directories, and which rank of how many it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from trainer.config.run import RunConfig
from trainer.config.stage import Stage, Training
from trainer.errors import KeelError
from trainer.pipeline.meter import Meter
from trainer.pipeline.places import MODEL_DIR, base_model_path

T = TypeVar("T")
# Of a collective of the libraries' own, in training or while one rank prepares the data: longer than any of them takes.
LIMIT = timedelta(minutes=60)
_control: Any = None  # our own messages between the ranks: over gloo, so that they are the same for ranks with GPUs and without


@dataclass(frozen=True)
class StageContext:
    """Attributes: run_dir holds one directory per stage; `stage_dir` is this stage's own; meter: of what it takes."""

    config: RunConfig
    run_dir: Path
    stage: Stage
    rank: int
    world_size: int
    meter: Meter = field(default_factory=Meter, compare=False)

    @classmethod
    def of_this_process(cls, config: RunConfig, run_dir: Path, stage: Stage) -> StageContext:
        return cls(config, run_dir, stage, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    @property
    def stage_dir(self) -> Path:
        return self.run_dir / self.stage.name

    @property
    def training(self) -> Training:
        """How this stage trains; only of one that does."""
        assert self.stage.training is not None
        return self.stage.training

    @property
    def base_model(self) -> str:
        """The model that this stage starts from: the run's, or what an earlier stage left."""
        if self.stage.training is not None and self.stage.training.base is not None:
            return str(self.run_dir / self.stage.training.base / MODEL_DIR)
        return base_model_path(self.config, self.run_dir)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def __enter__(self) -> StageContext:
        self.stage_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _control
        if kind is None and dist.is_initialized():
            self.barrier()
            dist.destroy_process_group()
            _control = None

    def connect(self) -> None:
        """Join the other ranks; DeepSpeed and Accelerate use what is here.

        Our own messages may wait as long as any rank works (rank 0 may judge for hours): their bound is the watchdog's.
        """
        global _control
        if self.world_size > 1 and not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=LIMIT)
            _control = dist.new_group(backend="gloo", timeout=timedelta(days=1))

    def barrier(self) -> None:
        if dist.is_initialized():
            dist.barrier(group=_control)

    def gather(self, value: T) -> list[T]:
        """The value of every rank, by rank, on every rank."""
        if not dist.is_initialized():
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=_control)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0 and give its result to all ranks; if it raises, every rank raises the same."""
        outcome: list[tuple[T | None, KeelError | None]] = [(None, None)]
        if self.is_main:
            try:
                outcome = [(work(), None)]
            except KeelError as error:
                outcome = [(None, error)]
        if dist.is_initialized():
            dist.broadcast_object_list(outcome, src=0, group=_control)
        result, error_ = outcome[0]
        if error_ is not None:
            raise error_
        return result  # type: ignore[return-value]  # rank 0 put a T there
