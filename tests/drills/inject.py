"""Does something to a run at one exact moment, from inside a rank, and only once. The environment of the run says what:

DRILL_STAGE  the stage whose ranks are disturbed
DRILL_PHASE  setup, tokenising, mid_step, mid_accumulation, save_begins, mid_save, evaluation
DRILL_STEP   optimiser steps done before that moment may come (in training phases)
DRILL_ACT    kill: this rank (1) kills itself · TERM, USR2: rank 0 signals the launcher, as Slurm or a user would ·
             stop: rank 1 stops like a frozen node · sleep: rank 1 falls asleep outside any collective · nan: rank 1's loss ·
             fill: rank 1 takes what is left of the file system

The product knows nothing of this file: it wraps library functions.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import accelerate
import datasets
import transformers
from transformers.models.llama.modeling_llama import LlamaModel


def disturb(stage: str) -> None:
    """Called in every rank of every stage before it begins; its modules are loaded."""
    if stage == os.environ["DRILL_STAGE"]:
        phase, act = os.environ["DRILL_PHASE"], os.environ["DRILL_ACT"]
        Disturbance(phase, act, int(os.environ["DRILL_STEP"]), int(os.environ["RANK"])).prepare()


@dataclass
class Disturbance:
    """What will happen in this rank. Attributes: now_step and micro: the optimiser step and micro-step that it is in."""

    phase: str
    act: str
    step: int
    rank: int
    now_step: int = -1
    micro: int = -1
    done: bool = False

    def prepare(self) -> None:
        before(transformers.Trainer, "training_step", self._count)
        moments: dict[str, tuple[Any, str, Callable[..., None]]] = {
            "setup": (transformers.utils.logging, "disable_progress_bar", self._do),
            "tokenising": (datasets.Dataset, "map", self._do),
            "mid_step": (accelerate.Accelerator, "backward", self._do_if_late_enough),
            "save_begins": (transformers.Trainer, "_save_optimizer_and_scheduler", self._do),
            "mid_save": (transformers.Trainer, "_save_rng_state", self._do_in_a_later_save),
            "evaluation": (transformers.GenerationMixin, "generate", self._do_at_the_second_call),
        }
        if self.phase in moments:
            before(*moments[self.phase])
        if self.act == "nan":
            self._spoil_one_forward()

    def _count(self, trainer: transformers.Trainer, *_: Any) -> None:
        step = trainer.state.global_step
        self.micro = self.micro + 1 if self.now_step == step else 0
        self.now_step = step
        if self.phase == "mid_accumulation" and self.micro == 1:
            self._do_if_late_enough()

    def _do_if_late_enough(self, *_: Any) -> None:
        if self.now_step >= self.step:
            self._do()

    def _do_in_a_later_save(self, trainer: transformers.Trainer, *_: Any) -> None:
        if trainer.state.global_step > self.step:
            self._do()

    def _do_at_the_second_call(self, *_: Any) -> None:
        self.micro += 1
        if self.micro == 1:
            self._do()

    def _do(self, *_: Any) -> None:
        if self.done or self.rank != (0 if self.act in ("TERM", "USR2") else 1):
            return
        self.done = True
        if self.act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.act == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.act == "fill":
            disk = os.statvfs(".")
            with open("filler", "wb") as filler:
                os.posix_fallocate(filler.fileno(), 0, (disk.f_bavail - 100) * disk.f_frsize)
        elif self.act == "sleep":
            time.sleep(600)
        else:
            os.kill(os.getppid(), getattr(signal, f"SIG{self.act}"))
            time.sleep(0.3)  # the launcher passes it on to every rank, this one included

    def _spoil_one_forward(self) -> None:
        """One forward whose loss-to-be is not a number: the hidden states of rank 1 at that step."""
        original = LlamaModel.forward

        def forward(model: LlamaModel, *args: Any, **kwargs: Any) -> Any:
            output = original(model, *args, **kwargs)
            if model.training and not self.done and self.rank == 1 and self.now_step >= self.step:
                self.done = True
                output.last_hidden_state = output.last_hidden_state * float("nan")
            return output

        LlamaModel.forward = forward


def before(owner: Any, name: str, hook: Callable[..., None]) -> None:
    """Let `hook` run before that function, with its positional arguments."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        hook(*args)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)
