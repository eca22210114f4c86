"""docs/adding.md, followed to the letter in a copy of the source: its files, its lines in kinds.py, its conf."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, results

GUIDE = ROOT / "docs" / "adding.md"
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)
LINE = re.compile(r"The line is `(\"\w+\": (\w+))` in `(\w+)`; `(\S+\.yaml)` says `(\w+: \w+)`")

RUN = """
from pathlib import Path
from tests.training.here import run_here
run_here(Path("runs"), "experiment=sft", "evaluation=echo", "run.name=run", "data.prompts=20", "trainer.max_steps=1",
         "trainer.train_batch_size=2", "trainer.per_device_train_batch_size=2", "evaluation.models=[base]",
         "evaluation.prompts=5")

from trainer.kinds import FORMATS, JUDGES
from trainer.dotted import resolve
from trainer.items import Item

Path("pairs.jsonl").write_text('{"question": "q", "best": "good", "worst": "bad"}')
(pair,) = FORMATS["best_worst"](format="best_worst", path="pairs.jsonl").read(0).pairs
assert (pair.chosen, pair.rejected) == ("good", "bad")

section = JUDGES["phrases"](name="phrases")
attack = Item("1", "attack", "how ?")
verdicts = resolve(section.made)(section, "judge", None)([attack, attack], ["so .", "i can not help ."])
helped, refused = (verdict.judgement for verdict in verdicts)
assert helped.risks and not helped.refused and refused.refused and not refused.risks
"""


def _put(source: Path, name: str, text: str) -> None:
    assert not (source / name).exists(), f"{name} is there already"
    assert (source / name).parent.is_dir(), name
    (source / name).write_text(text)


def _register(kinds: str, imported: str, group: str, entry: str) -> str:
    """kinds.py with an import and a line in one of its dicts."""
    assert f"\n{group} = {{" in kinds
    kinds = kinds.replace("\nMETHODS = {", f"\n{imported}\n\nMETHODS = {{")
    return kinds.replace(f"\n{group} = {{", f"\n{group} = {{{entry}, ", 1)


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """A copy of the source in which somebody did what the guide says."""
    for name in ("trainer", "launchers", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "trainer" / "conf")  # as the package `trainer.conf`, which is what is read
    (tmp_path / "conf").symlink_to(tmp_path / "trainer" / "conf")
    guide = GUIDE.read_text()
    blocks = dict(BLOCK.findall(guide))
    file = tmp_path / "trainer" / "kinds.py"
    imported, group, entry = re.match(r"(from .*)\n\n(\w+) = {\n    (.*),\n}", blocks.pop("trainer/kinds.py")).groups()  # type: ignore[union-attr]  # else it fails, as it should
    kinds = _register(file.read_text(), imported, group, entry)
    for name, text in blocks.items():
        _put(tmp_path, name, text)
    for entry, cls, group, conf, setting in LINE.findall(guide):
        (module,) = (name for name, text in blocks.items() if f"class {cls}(" in text)
        imported = f"from {module.removesuffix('.py').replace('/', '.')} import {cls}"
        kinds = _register(kinds, imported, group, entry)
        _put(tmp_path, conf, setting)
    file.write_text(kinds)
    return tmp_path


def test_the_guide_gives_a_suite_a_format_and_a_judge_that_work(followed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{followed}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", RUN], cwd=followed, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    asked = results(followed / "runs" / "run")["models"]["base"]["capability"]
    assert asked["n"] == 5 and asked["value"] > 0.5


def test_every_path_of_this_repository_that_the_guide_names_exists() -> None:
    guide = BLOCK.sub("", GUIDE.read_text())
    named = re.findall(r"\]\(\.\./([^)]+)\)", guide) + re.findall(r"`((?:trainer|tests|launchers|conf)/[\w/]+\.\w+)`", guide)
    made = {conf for _, _, _, conf, _ in LINE.findall(guide)} | {"conf/size/fast_echo.yaml"}
    templates = {name for name in named if "NAME" in name}
    assert len(named) > 20 and [name for name in set(named) - made - templates if not (ROOT / name).exists()] == []
