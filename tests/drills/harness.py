"""Runs that are disturbed at an exact moment, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.errors import KeelError
from trainer.run import carry_out
from trainer.survival.checkpoints import all_checkpoints, damage_in, read_manifest

INJECT = Path(__file__).parent / "inject"
STEPS = 30
SAVE_EVERY = 4

# Two micro-batches a step on each of two ranks; every step logged; W&B offline, for its run id.
ARGUMENTS = (
    "experiment=sft",
    "run.name=run",
    "data.prompts=150",
    f"trainer.max_steps={STEPS}",
    "trainer.train_batch_size=8",
    "trainer.per_device_train_batch_size=2",
    f"trainer.save_steps={SAVE_EVERY}",
    "trainer.save_total_limit=3",
    "trainer.logging_steps=1",
    "trainer.learning_rate=5e-4",
    "launcher.processes=2",
)
EVALUATED = (  # what is evaluated, where `evaluation=none` does not leave it out
    "evaluation.models=[base,sft]",
    "evaluation.prompts=2",
    "evaluation.capability_prompts=14",
    "evaluation.over_refusal_prompts=6",
    "evaluation.resamples=50",
    "generation.batch_size=2",
    "generation.max_new_tokens=8",
)


@dataclass(frozen=True)
class Ended:
    """How one start of a run ended. seconds: from start to end."""

    code: int
    output: str
    seconds: float

    @property
    def resumed_from(self) -> int | None:
        found = re.search(r"^sft: resuming from step (\d+) ", self.output, re.MULTILINE)
        return int(found.group(1)) if found else None


def _drive(overrides: tuple[str, ...], cwd: Path, log: Path, environment: dict[str, str]) -> None:
    """In a forked process: what `python -m trainer` does once it has composed, with its output in a file."""
    os.setsid()
    os.chdir(cwd)
    os.environ.update(environment)
    out = log.open("w")
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    sys.stdout = sys.stderr = out
    code = 0
    try:
        carry_out(load_config(composed(overrides)))
    except KeelError as error:
        print(error, flush=True)
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code)


def start(cwd: Path, *overrides: str, timeout: float = 240, **environment: str) -> Ended:
    """Start the run of the drills and wait for its end. `environment`: DRILL_* variables, see inject/sitecustomize.py."""
    cwd.mkdir(exist_ok=True)
    log = cwd / "output.txt"
    began = time.monotonic()
    disturbed = {"PYTHONPATH": str(INJECT), **environment} if environment else {}
    process = multiprocessing.get_context("fork").Process(
        target=_drive, args=((*ARGUMENTS, *overrides), cwd, log, {"HF_HUB_OFFLINE": "1", **disturbed})
    )
    process.start()
    process.join(timeout)
    assert process.exitcode is not None, f"still running after {timeout} s:\n{log.read_text()[-3000:]}"
    return Ended(process.exitcode, log.read_text(), time.monotonic() - began)


def processes_of(cwd: Path) -> list[psutil.Process]:
    """Ranks of runs in this directory that are still alive."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if "trainer.worker" in process.cmdline() and process.cwd() == str(cwd) and not ended:
                found.append(process)
    return found


def none_left(cwd: Path, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while processes_of(cwd) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes_of(cwd)


def newest_step(stage_dir: Path) -> int:
    """The step of the newest checkpoint, which must be complete; 0 where there is none."""
    checkpoints = all_checkpoints(stage_dir / "checkpoints")
    if not checkpoints:
        return 0
    assert damage_in(checkpoints[0]) == []
    manifest = read_manifest(checkpoints[0])
    assert manifest is not None
    return manifest.step


def stray_wandb_ids(run_dir: Path) -> set[str]:
    """Ids of W&B runs that were written here and are not the one id that each stage keeps."""
    written = {directory.name.rpartition("-")[2] for directory in (run_dir / "wandb").glob("offline-run-*")}
    return written - {path.read_text().strip() for path in run_dir.glob("*/wandb_id")}


@dataclass(frozen=True)
class Row:
    """One cell of the table of drills."""

    drill: str
    where: str
    fact: str


TABLE: list[Row] = []
