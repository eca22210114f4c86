"""Sweeps on a real Slurm: one job array, and only the holes of it again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.cluster.slurm_lab import Cluster

PAIRS = "".join(json.dumps({"prompt": p, "chosen": "b", "rejected": "c"}) + "\n" for p in ("a", "a a"))
LONG = json.dumps({"prompt": "a " * 2000, "chosen": "b", "rejected": "c"}) + "\n"  # which a run finds when it counts tokens
QUICK = (
    "experiment=sft", "trainer.max_steps=1", "tracking.mode=disabled", "deepspeed=none",
    "launcher=slurm_cpu", "launcher.processes_per_node=1", "launcher.time=10:00", "launcher.signal_lead=60",
)  # fmt: skip
OWN_DATA = ("evaluation=none", "data=preference", "trainer.train_batch_size=2", "trainer.per_device_train_batch_size=2")


def sweep(cluster: Cluster, *overrides: str, cwd: Path, seconds: float = 120) -> str:
    return cluster.run(sys.executable, "-m", "trainer", "-m", *QUICK, *overrides, cwd=cwd, seconds=seconds)


def job_id(output: str) -> str:
    found = re.search(r"submitted: job (\d+)", output)
    assert found, output
    return found[1]


def states(cluster: Cluster, cwd: Path, name: str) -> dict[str, str]:
    """point -> state, as `python -m trainer.sweep` shows it."""
    output = cluster.run(sys.executable, "-m", "trainer.sweep", f"runs/{name}", cwd=cwd)
    rows = [line.split() for line in output.splitlines() if "=" in line]
    return {row[0].removeprefix("data.path="): row[1] for row in rows}


@pytest.mark.slow
def test_a_sweep_is_one_array_and_the_same_command_submits_only_its_holes(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_text(PAIRS if name != "b" else LONG)
    command = (*OWN_DATA, "run.name=s", "data.path=a.jsonl,b.jsonl,c.jsonl", "launcher.array_throttle=2")
    output = sweep(cluster, *command, cwd=tmp_path)
    job = job_id(output)
    assert "3 runs, 3 submitted" in output
    assert "--array=0-2%2" in (tmp_path / "runs" / "s" / "sweep" / "array-1.sbatch").read_text()
    assert cluster.wait(f"{job}_0", seconds=300)["JobState"] == "COMPLETED"

    for index, state in ((1, "FAILED"), (2, "COMPLETED")):
        assert cluster.wait(f"{job}_{index}", seconds=300)["JobState"] == state
    assert states(cluster, tmp_path, "s") == {"a.jsonl": "done", "b.jsonl": "failed", "c.jsonl": "done"}
    assert "data: 1 of 1 prompts are longer than" in (tmp_path / "runs" / "s" / "sweep" / f"slurm-{job}_1.log").read_text()

    (tmp_path / "b.jsonl").write_text(PAIRS)
    output = sweep(cluster, *command, cwd=tmp_path)
    hole = job_id(output)
    assert "3 runs, 1 submitted" in output
    assert "--array=0-0%2" in (tmp_path / "runs" / "s" / "sweep" / "array-2.sbatch").read_text()

    output = sweep(cluster, *command, cwd=tmp_path)  # while it is under way
    assert "3 runs, 0 submitted" in output
    assert cluster.wait(f"{hole}_0", seconds=300)["JobState"] == "COMPLETED"
    assert set(states(cluster, tmp_path, "s").values()) == {"done"}
    assert "nothing to submit" in sweep(cluster, *command, cwd=tmp_path)


@pytest.mark.slow
def test_an_optimising_sweep_waits_for_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    evaluation = ("models=[sft]", "prompts=2", "capability_prompts=7", "over_refusal_prompts=2", "resamples=20")
    output = sweep(
        cluster, "run.name=o", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "data.prompts=20",
        "run.objective=sft/capability", "trainer.learning_rate=tag(log,interval(1e-6,1e-2))",
        *(f"evaluation.{setting}" for setting in evaluation), cwd=tmp_path, seconds=400,
    )  # fmt: skip
    assert "2 runs, 2 submitted" in output
    assert "waiting for jobs: " in output
    assert re.search(r"best: [01]\.\d{4} at trainer\.learning_rate=", output)
    assert set(states(cluster, tmp_path, "o").values()) == {"done"}
