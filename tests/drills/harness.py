"""Runs that are disturbed at an exact moment, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.warm.client import start_warm
from tests.warm.rank import NAME as RANK
from trainer.checkpoints.store import all_checkpoints, damage_in, read_manifest

STEPS = 30
SAVE_EVERY = 4

# Two micro-batches per step on each of two ranks; every step logged; W&B offline, for its run id.
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
    "evaluation.capability_prompts=7",
    "evaluation.over_refusal_prompts=2",
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


def start(cwd: Path, *overrides: str, timeout: float = 240, **environment: str) -> Ended:
    """Start the run of the drills and wait for its end. `environment`: may hold a `moment`."""
    cwd.mkdir(exist_ok=True)
    began = time.monotonic()
    inject = "tests.drills.inject" if "DRILL_STAGE" in environment else None
    process = start_warm(*ARGUMENTS, *overrides, cwd=cwd, inject=inject, **environment)
    output, _ = process.communicate(timeout)
    assert process.returncode is not None
    return Ended(process.returncode, output, time.monotonic() - began)


def undisturbed(cwd: Path, *overrides: str, **environment: str) -> Path:
    """The run directory of one that nothing happens to."""
    ended = start(cwd, *overrides, **environment)
    assert ended.code == 0, ended.output[-3000:]
    return cwd / "runs" / "run"


def moment(phase: str, act: str, step: int = 0, stage: str = "sft") -> dict[str, str]:
    """The environment in which something is done to a run: see inject.py."""
    return {"DRILL_STAGE": stage, "DRILL_PHASE": phase, "DRILL_ACT": act, "DRILL_STEP": str(step)}


def processes_of(cwd: Path) -> list[psutil.Process]:
    """Ranks of runs in this directory that are still alive."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if process.name() == RANK and process.cwd() == str(cwd) and not ended:
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
