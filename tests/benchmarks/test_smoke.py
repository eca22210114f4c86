"""Every benchmark at its smallest size: it runs as documented, and leaves its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import dsa_cost, dsa_real_guardrails, dsa_training, safesteer_loss
from tests.conftest import ROOT

HERE = {
    module.__name__.removeprefix("benchmarks."): module
    for module in (dsa_cost, dsa_real_guardrails, dsa_training, safesteer_loss)
}
APART = ("against_trl", "plan_memory", "safesteer_step")  # they start processes
OTHERS = {"__init__", "common"}


def written(path: Path, name: str) -> list[dict[str, Any]]:
    """The tables that a benchmark wrote, none of them empty."""
    found = json.loads(path.read_text())
    assert found["benchmark"] == name and found["smoke"] and found["commit"] and found["hardware"]
    tables: list[dict[str, Any]] = found["tables"]
    assert tables and all(table["rows"] for table in tables)
    assert all(len(row) == len(table["header"]) and all(row) for table in tables for row in table["rows"] if row[0] != "(base)")
    return tables


def test_every_script_is_run_here() -> None:
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == {*HERE, *APART, *OTHERS}


@pytest.mark.parametrize("name", HERE)
def test_a_smoke_run_writes_the_table(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    HERE[name].main(["--smoke", "--json", str(tmp_path / "rows.json")])
    tables = written(tmp_path / "rows.json", name)
    printed = capsys.readouterr().out
    assert all(table["caption"] in printed and table["rows"][-1][-1] in printed for table in tables)


@pytest.mark.slow
@pytest.mark.parametrize("name", APART)
def test_a_smoke_run_that_starts_processes_writes_the_table(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--smoke", "--json", str(tmp_path / "rows.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    written(tmp_path / "rows.json", name)
