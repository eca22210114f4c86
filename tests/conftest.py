"""What several tests need: real runs through the command a user types, and the public data where it is present."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warm.client import end_zygote

# The models here are tiny: a second thread brings nothing, and waits by spinning where another process wants its core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

# A run that is small in every way, and real in every way.
SMALL = (
    "data.prompts=60",
    "trainer.max_steps=4",
    "trainer.logging_steps=1",
    "evaluation.prompts=4",
    "evaluation.capability_prompts=14",
    "evaluation.over_refusal_prompts=6",
    "evaluation.resamples=50",
)


def pytest_configure() -> None:
    """A shell starts what it puts in the background deaf to Ctrl-C, and its children inherit that; some tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _end_of_warm_runs() -> Iterator[None]:
    yield
    end_zygote()


def start_keel(*overrides: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """`python -m trainer ...` as a user would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *overrides],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def keel(*overrides: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """Run it to its end and return what it printed; fails the test on another exit code."""
    process = start_keel(*overrides, cwd=cwd, **environment)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, f"exit {process.returncode}, expected {code}:\n{output[-4000:]}"
    return output


def losses(stage_dir: Path) -> list[float]:
    """The training loss at every logged step; where a step was done twice, the later one."""
    rows = [json.loads(line) for line in (stage_dir / "metrics.jsonl").read_text().splitlines()]
    by_step = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    return [by_step[step] for step in sorted(by_step)]


def results(run_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return loaded


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The public datasets beside the checkout; they are not part of the repository."""
    if not DATA.exists():
        pytest.skip(f"the public data is not at {DATA}")
    return DATA
