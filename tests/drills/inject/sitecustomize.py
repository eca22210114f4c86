"""Put on a rank's PYTHONPATH by the drills: does something to the run at one exact moment, from inside, and only once.

DRILL_STAGE  the stage whose ranks are disturbed
DRILL_PHASE  setup, tokenising, mid_step, mid_accumulation, save_begins, mid_save, evaluation
DRILL_STEP   optimiser steps done before that moment may come (in training phases)
DRILL_ACT    kill: this rank (1) kills itself · TERM, USR2: rank 0 signals the launcher, as Slurm or a user would ·
             stop: rank 1 stops like a frozen node · sleep: rank 1 falls asleep outside any collective · nan: rank 1's loss ·
             fill: rank 1 takes what is left of the file system

The product knows nothing of this file: it wraps library functions after their modules are imported.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
import time

PHASE, ACT = os.environ.get("DRILL_PHASE"), os.environ.get("DRILL_ACT")
STEP = int(os.environ.get("DRILL_STEP", "0"))
RANK = os.environ.get("RANK")
ACTING_RANK = "0" if ACT in ("TERM", "USR2") else "1"
now = {"step": -1, "micro": -1}
done = False


def act():
    global done
    if done or RANK != ACTING_RANK:
        return
    done = True
    if ACT == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif ACT == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif ACT == "fill":
        disk = os.statvfs(".")
        with open("filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, (disk.f_bavail - 100) * disk.f_frsize)
    elif ACT == "sleep":
        time.sleep(600)
    else:
        os.kill(os.getppid(), getattr(signal, f"SIG{ACT}"))
        time.sleep(0.3)  # the launcher passes it on to every rank, this one included


def wrap(owner, name, before):
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        before(*args)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def patch_trainer(module):
    trainer = module.Trainer
    if PHASE == "setup":
        act()

    def micro_step(self, *_):
        now["micro"] = now["micro"] + 1 if now["step"] == self.state.global_step else 0
        now["step"] = self.state.global_step
        if PHASE == "mid_accumulation" and now["step"] >= STEP and now["micro"] == 1:
            act()

    wrap(trainer, "training_step", micro_step)
    if PHASE == "save_begins":
        wrap(trainer, "_save_optimizer_and_scheduler", lambda *_: act())
    if PHASE == "mid_save":
        wrap(trainer, "_save_rng_state", lambda self, *_: act() if self.state.global_step > STEP else None)


def patch_accelerator(module):
    if PHASE == "mid_step":
        wrap(module.Accelerator, "backward", lambda *_: act() if now["step"] >= STEP else None)


def patch_datasets(module):
    if PHASE == "tokenising":
        wrap(module.Dataset, "map", lambda *_: act())


def patch_generation(module):
    calls = []

    def second_call(*_):
        calls.append(1)
        if PHASE == "evaluation" and len(calls) == 2:
            act()

    wrap(module.GenerationMixin, "generate", second_call)


def patch_llama(module):
    """One forward whose loss-to-be is not a number: the hidden states of rank 1 at that step."""
    if ACT != "nan":
        return
    original = module.LlamaModel.forward

    def forward(self, *args, **kwargs):
        global done
        output = original(self, *args, **kwargs)
        if self.training and not done and RANK == "1" and now["step"] >= STEP:
            done = True
            output.last_hidden_state = output.last_hidden_state * float("nan")
        return output

    module.LlamaModel.forward = forward


PATCHES = {
    "transformers.trainer": patch_trainer,
    "accelerate.accelerator": patch_accelerator,
    "datasets.arrow_dataset": patch_datasets,
    "transformers.generation.utils": patch_generation,
    "transformers.models.llama.modeling_llama": patch_llama,
}


class AfterImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        patch = PATCHES.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("DRILL_STAGE") and sys.orig_argv[-1] == os.environ["DRILL_STAGE"]:
    sys.meta_path.insert(0, AfterImport())
