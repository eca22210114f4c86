"""The exact sbatch text, and that no value given by a user is ever read by a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launchers.slurm.render import render, render_array, whole_size
from launchers.slurm.section import SlurmLauncher
from tests.launchers.slurm_config import scripts_of, slurm_config, slurm_section
from trainer.config.run import RunConfig
from trainer.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"

CLUSTER = {
    "partition": "gpu",
    "account": "alignment",
    "constraint": "h100&ib",
    "modules": ["cuda/12.8", "nccl"],
    "setup": ["ulimit -n 65536"],
    "environment": {"NCCL_DEBUG": "WARN"},
    "network_interface": "ib0",
    "sbatch": ["--exclusive", "--mail-type=FAIL"],
    "cpus_per_task": 12,
    "mem": "0",
}


def _gpu_multi_node() -> dict[str, str]:
    return scripts_of(slurm_config(nodes=2, **CLUSTER), Path("/shared/runs/first"))


def _per_stage() -> dict[str, str]:
    stages = {"sft": {"nodes": 1}, "evaluate": {"nodes": 1, "gpus_per_node": 4, "time": "2:00:00"}, "data": {"time": "30"}}
    config = slurm_config(nodes=2, per_stage=True, stages=stages)
    return scripts_of(config, Path("/shared/runs/first"))


def _array() -> dict[str, str]:
    sweep = Path("/shared/runs/seeds/sweep")
    launcher = slurm_section(name="seeds/seed=0", array_throttle=4, task="node", gpus_per_node=2)
    return {"array.sbatch": render_array(launcher, sweep / "array-1.tasks", 9, sweep)}


@pytest.mark.parametrize(("kind", "scripts"), [("gpu", _gpu_multi_node), ("stages", _per_stage), ("array", _array)])
def test_the_text_is_the_golden_text(kind: str, scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files stand for a review by eye: a change of the text must change them by hand."""
    monkeypatch.chdir("/")
    rendered = scripts()
    golden = {path.name.removeprefix(f"{kind}-"): path.read_text() for path in GOLDEN.glob(f"{kind}-*.sbatch")}
    assert rendered == golden
    for name in rendered:
        subprocess.run([SHELLCHECK, GOLDEN / f"{kind}-{name}"], check=True)


def test_no_value_reaches_the_shell(tmp_path: Path) -> None:
    """The rendered script is run by a real bash, with a program in place of Python that tells what it was given."""
    hostile = """it's "here"; $(touch owned) `touch owned` $HOME \\ *"""
    told = tmp_path / "told.json"
    python = tmp_path / f"python {hostile}"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\njson.dump([sys.argv[1:], dict(os.environ)], open({str(told)!r}, 'w'))\n"
    )
    python.chmod(0o755)
    config = slurm_config(
        python=str(python),
        environment={"VALUE": hostile},
        network_interface=hostile,
        sbatch=[f"--comment={hostile}"],
        partition=hostile,
    )
    run_dir = tmp_path / hostile
    (script,) = scripts_of(config, run_dir).values()
    passed = {"PATH": os.environ["PATH"], "VALUE": hostile}
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, env=passed)
    arguments, environment = json.loads(told.read_text())
    assert arguments == ["-m", "trainer.job", str(run_dir)]
    assert environment["VALUE"] == environment["NCCL_SOCKET_IFNAME"] == hostile
    assert not (tmp_path / "owned").exists()


def test_a_script_says_which_variable_it_was_not_given(tmp_path: Path) -> None:
    (script,) = scripts_of(slurm_config(environment={"VALUE": "1"}), tmp_path).values()
    done = subprocess.run(["bash", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode != 0 and "VALUE: is passed by the command that submits this script" in done.stderr


def test_module_names_are_words() -> None:
    config = slurm_config(modules=["cuda/12; touch owned", "$(id)"])
    (script,) = scripts_of(config, Path("/runs/x")).values()
    assert "module load 'cuda/12; touch owned'\nmodule load '$(id)'\n" in script


@pytest.mark.parametrize("break_", ["\n", "\r", "\0"])
def test_a_line_break_cannot_start_another_option(break_: str) -> None:
    """The config check says so first; the renderer does not rely on it."""
    settings = SlurmLauncher(name="slurm", partition=f"gpu{break_}#SBATCH --uid=0")
    with pytest.raises(ConfigError, match="line break"):
        render(settings, "run", whole_size(settings), Path("/runs/x/slurm.log"), ["-m", "trainer.job"])


def test_what_is_online_is_not_told_to_be_offline() -> None:
    def script(config: RunConfig) -> str:
        return scripts_of(config, Path("/runs/x"))["job.sbatch"]

    assert "export HF_HUB_OFFLINE=1" in script(slurm_config())
    assert "OFFLINE" not in script(slurm_config(offline=False))
    assert "gpus-per-node" not in script(slurm_config(gpus_per_node=0, processes_per_node=4))
