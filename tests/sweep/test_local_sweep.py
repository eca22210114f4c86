"""Sweeps on this machine."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import start_keel
from tests.warm.client import warm_keel

QUICK = ("experiment=sft", "trainer.max_steps=1", "tracking.mode=disabled", "deepspeed=none")
OWN_DATA = ("evaluation=none", "data=preference", "trainer.train_batch_size=2", "trainer.per_device_train_batch_size=2")
PAIRS = "".join(json.dumps({"prompt": p, "chosen": "b", "rejected": "c"}) + "\n" for p in ("a", "a a"))
LONG = json.dumps({"prompt": "a " * 2000, "chosen": "b", "rejected": "c"}) + "\n"  # which a run finds when it counts tokens


def states(output: str) -> dict[str, str]:
    """point -> state, from the table at the end."""
    words = [line.split() for line in output.rsplit(" runs", 1)[1].splitlines()]
    return {line[0]: line[1] for line in words if len(line) > 1 and "=" in line[0]}


def test_a_failed_run_does_not_end_the_sweep_and_the_same_command_fills_the_hole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LONG)
    (tmp_path / "b.jsonl").write_text(PAIRS)
    command = ("-m", *QUICK, *OWN_DATA, "run.name=s", "data.path=a.jsonl,b.jsonl")
    output = warm_keel(*command, cwd=tmp_path, code=1)
    assert "data: 1 of 1 prompts are longer than" in output
    assert states(output.split("SweepFailed")[0]) == {"data.path=a.jsonl": "failed", "data.path=b.jsonl": "done"}
    assert "1 of 2 runs failed; the same command runs those again" in output

    model = tmp_path / "runs" / "s" / "data.path=b.jsonl" / "sft" / "model" / "model.safetensors"
    written = model.stat().st_mtime_ns
    (tmp_path / "a.jsonl").write_text(PAIRS)
    assert states(warm_keel(*command, cwd=tmp_path)) == {"data.path=a.jsonl": "done", "data.path=b.jsonl": "kept"}
    assert model.stat().st_mtime_ns == written
    lines = [json.loads(line) for line in (tmp_path / "runs" / "s" / "sweep.jsonl").read_text().splitlines()]
    assert [(line["point"][-7:], line["state"]) for line in lines] == [
        ("a.jsonl", "failed"),
        ("b.jsonl", "done"),
        ("a.jsonl", "done"),
    ]


@pytest.mark.slow
def test_the_keyboard_stops_a_sweep_in_good_order(tmp_path: Path) -> None:
    process = start_keel("-m", *QUICK, "evaluation=none", "data.prompts=20", "seed=0,1", cwd=tmp_path)
    first = tmp_path / "runs" / "sft" / "seed=0" / "data"
    deadline = time.monotonic() + 120
    while not first.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert states(output.split("stopped;")[0]) == {"seed=0": "interrupted", "seed=1": "not"}  # not started
    assert "the same command continues from here" in output
    assert not (tmp_path / "runs" / "sft" / "seed=1" / "data").exists()


@pytest.mark.slow
def test_optuna_chooses_runs_by_their_results_and_goes_on(tmp_path: Path) -> None:
    evaluation = ("models=[sft]", "prompts=2", "capability_prompts=7", "over_refusal_prompts=2", "resamples=20")
    command = (
        "-m", *QUICK, "run.name=o", "hydra/sweeper=optuna", "data.prompts=20",
        "run.objective=sft/capability", "hydra.sweeper.n_trials=2", "trainer.learning_rate=tag(log,interval(1e-6,1e-2))",
        *(f"evaluation.{setting}" for setting in evaluation),
    )  # fmt: skip
    output = warm_keel(*command, cwd=tmp_path)
    rows = states(output.split("best:")[0].replace("maximize", "maximize 2 runs"))
    values = {}
    for name in rows:
        results = json.loads((tmp_path / "runs" / "o" / name / "results.json").read_text())
        values[name] = results["models"]["sft"]["capability"]["value"]
    assert len(values) == 2
    assert f"best: {max(values.values()):.4f} at trainer.learning_rate=" in output
    assert "optuna: 2 of 2 runs are finished, 0 to go" in warm_keel(*command, cwd=tmp_path)
