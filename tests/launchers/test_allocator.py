"""Ranks on a CPU keep the memory that they free; what the user sets himself stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launchers import allocator
from launchers.allocator import HUGE_PAGES, KEEP, kept_memory
from launchers.processes import World, rank_environment
from launchers.slurm.ranks import task_environment
from tests.conftest import ROOT

ALL = {HUGE_PAGES: "1", **KEEP}


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({}, ALL),
        ({HUGE_PAGES: "0"}, KEEP),
        ({"MALLOC_TRIM_THRESHOLD_": "1"}, {HUGE_PAGES: "1"}),
        ({"MALLOC_ARENA_MAX": "2"}, {HUGE_PAGES: "1"}),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_max=7"}, {HUGE_PAGES: "1"}),
        ({"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=off"}, ALL),
    ],
)
def test_the_users_own_values_win(own: dict[str, str], added: dict[str, str]) -> None:
    assert kept_memory(own) == added


@pytest.mark.parametrize(("build", "visible", "on_gpu"), [
    ("2.13.0", None, True), ("2.13.0", "0", True), ("2.13.0", "", False), ("2.13.0", "-1", False), ("2.13.0+cpu", None, False),
])  # fmt: skip
def test_where_there_is_a_gpu_nothing_is_set(
    build: str, visible: str | None, on_gpu: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(allocator, "version", lambda _: build)
    monkeypatch.setattr(allocator, "_GPUS", (str(tmp_path),))
    assert kept_memory({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == ({} if on_gpu else ALL)


def test_every_launchers_ranks_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    task = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "1", "WORLD_SIZE": "1"}
    assert task_environment(task).items() >= ALL.items()
    assert rank_environment(0, World(local_size=1, size=1)).items() >= ALL.items()
    monkeypatch.setenv(HUGE_PAGES, "0")
    assert rank_environment(0, World(local_size=1, size=1))[HUGE_PAGES] == "0"


def test_a_benchmark_starts_itself_anew_with_them(tmp_path: Path) -> None:
    """Before it has loaded anything."""
    script = "import os, json; print(json.dumps([sorted(os.environ), 1]))"
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text((ROOT / "benchmarks" / "__init__.py").read_text())
    (tmp_path / "benchmarks" / "shown.py").write_text(script)
    command = [sys.executable, "-m", "benchmarks.shown"]
    plain = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ALL)
