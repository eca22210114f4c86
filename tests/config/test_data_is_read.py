"""Data is read when the config is: a mistake in it is found with the others, before a process starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.data import check, files
from trainer.errors import ConfigError

GOOD = {
    "pairs": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "unpaired": {"prompt": "a", "completion": "b", "label": True},
    "texts": {"text": "a", "label": 1},
    "prompts": {"instruction": "a"},
    "cosalign_test": {"prompt": "a", "config_categories": "--", "prompt_categories": "--", "situation": "safe"},
}
SFT, JUDGED = ("experiment=sft", "evaluation=none", "data=preference"), ("judge=model", "judge.path=nobody/judge")
# Overrides in which {} stands for a file, what such a file holds, and the key that names it.
READERS = [
    ((*SFT, "data.path={}"), "pairs", "data.path"),
    (("experiment=kto", "evaluation=none", "data=unpaired", "data.path={}"), "unpaired", "data.path"),
    (("experiment=dsa_guardrails", "evaluation=none", "data=labelled", "data.path={}"), "texts", "data.path"),
    (("experiment=dsa_guardrails", "data=labelled", "data.path=nobody/texts", "data.tests.x={}"), "texts", "data.tests.x"),
    (("experiment=safesteer", "evaluation=none", "data=instructions", "data.harmless={}"), "prompts", "data.harmless"),
    (("experiment=sft", "evaluation=prompts", "evaluation.attacks.x={}", *JUDGED), "prompts", "evaluation.attacks.x"),
    (("experiment=sft", "evaluation=prompts", "evaluation.benign.x={}", *JUDGED), "prompts", "evaluation.benign.x"),
    (("experiment=cosalign", "evaluation=cosalign_test", "evaluation.path={}", *JUDGED), "cosalign_test", "evaluation.path"),
]


def problems(*overrides: str) -> list[str]:
    try:
        load_config(composed(list(overrides)))
    except ConfigError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(("overrides", "kind", "key"), READERS)
def test_a_damaged_row_is_found_with_the_mistakes_in_the_config(
    overrides: tuple[str, ...], kind: str, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    wanted = [override.replace("{}", str(path)) for override in overrides]
    path.write_text(json.dumps(GOOD[kind]) + "\n")
    assert not [line for line in problems(*wanted) if str(path) in line]
    path.write_text(json.dumps(GOOD[kind]) + "\nno JSON\n")
    found = [line for line in problems(*wanted) if str(path) in line]
    assert [line.startswith(f"{key}: {path}: row 2: is not JSON") for line in found] == [True]


def test_sound_data_is_read_once_by_a_process_and_large_data_by_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows_in = tmp_path / "rows.jsonl", files.rows_in
    read: list[Path] = []

    def reading(file: Path) -> Any:
        read.append(file)
        return rows_in(file)

    monkeypatch.setattr(files, "rows_in", reading)
    path.write_text(json.dumps(GOOD["pairs"]) + "\n")
    for _ in range(2):
        assert problems(*SFT, f"data.path={path}") == []
    assert read == [path]
    path.write_text(json.dumps(GOOD["pairs"]) * 2 + "\n")
    assert len(problems(*SFT, f"data.path={path}")) == 1
    monkeypatch.setattr(check, "MOST", 10)
    assert problems(*SFT, f"data.path={path}") == []
