"""An installed wheel works outside the checkout: configs and the sandbox base travel with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_a_wheel_carries_configs_and_base(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("trainer", "launchers", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("keel-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    shutil.rmtree(source)

    outside = tmp_path / "elsewhere"
    outside.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        "import trainer, trainer.conf, trainer.kinds, launchers.slurm.section; from trainer.config.shipped import BASE_DIR; "
        "from trainer.compare.html import PAGE; "
        "print(trainer.__file__, trainer.conf.__file__, launchers.slurm.section.__file__, "
        "BASE_DIR / 'model.safetensors', PAGE / 'report.html.j2', PAGE / 'style.css', PAGE / 'main.js')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=outside, env=environment, capture_output=True, text=True, check=True
    )
    paths = [Path(path) for path in found.stdout.split()]
    assert all(path.is_relative_to(site) and path.exists() for path in paths), paths

    command = [sys.executable, "-m", "trainer", "experiment=paper/cosalign", "--cfg", "job"]
    shown = subprocess.run(command, cwd=outside, env=environment, capture_output=True, text=True, check=True).stdout
    assert "path: meta-llama/Llama-3.1-8B-Instruct" in shown
    assert "optim: rmsprop" in shown
