"""`python -m trainer.doctor` as a user starts it, on two real ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def doctor(*overrides: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "trainer.doctor", *overrides],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "empty")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_sound_machine_has_one_line_per_fact_and_leaves_nothing(tmp_path: Path) -> None:
    code, output = doctor("launcher.processes=2", cwd=tmp_path)
    assert code == 0, output
    for fact in ("✓ ranks           2 ranks on 1 node", "sum right over gloo", "shipped with the package", "all well"):
        assert fact in output
    assert list((tmp_path / "runs" / "doctor").iterdir()) == []


@pytest.mark.slow
def test_a_model_that_offline_nodes_lack_is_a_fault_with_its_fix(tmp_path: Path) -> None:
    code, output = doctor("launcher.processes=2", "model.path=nobody/no-such-model", "data.prompts=9", cwd=tmp_path)
    assert code == 1, output
    assert "✗ model and data" in output and "model.path: nobody/no-such-model" in output
    assert "-> bring them into a mirror where there is a network (python -m trainer.fetch" in " ".join(output.split())
    assert output.rstrip().endswith("1 fault")
    assert list(tmp_path.glob("runs/doctor/*/doctor/report.json")), "what was found stays, to be looked at"


@pytest.mark.slow
def test_a_config_that_cannot_work_is_refused_before_anything_starts(tmp_path: Path) -> None:
    code, output = doctor("launcher.procesess=2", "model.path=./nowhere", cwd=tmp_path)
    assert code == 2
    assert "launcher.procesess: unknown key; did you mean processes?" in output
    assert "model.path: ./nowhere does not exist" in output
    assert not (tmp_path / "runs").exists()
