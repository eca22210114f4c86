"""CoSApien as evaluation items: prompts by scenario, guidelines from a file of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import DataError
from trainer.evaluation.suites.cosapien import cosapien_items

GUIDELINES = {"games": "No gore.", "school": "No slang."}


def files(tmp_path: Path, *rows: dict[str, Any]) -> tuple[str, Path]:
    (tmp_path / "guidelines.json").write_text(json.dumps(GUIDELINES))
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "data"), tmp_path / "guidelines.json"


def test_a_row_becomes_an_item_under_the_guideline_of_its_scenario(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "scenario": name, "type": "partial"} for i in range(5) for name in GUIDELINES]
    items = cosapien_items(*files(tmp_path, *rows), None)
    assert [item.id for item in items] == [f"{name}/{i:04d}" for name in GUIDELINES for i in range(5)]
    assert {(item.suite, item.split, item.situation) for item in items} == {("cosa", "unseen", "partial")}
    for item in items:
        assert item.guideline == GUIDELINES[item.safety_config] and item.guideline in item.system
        assert item.allowed == frozenset()
    kept = cosapien_items(*files(tmp_path, *rows), 2)
    assert [item.safety_config for item in kept] == ["games", "games", "school", "school"] and set(kept) <= set(items)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    row = {"prompt": "p", "scenario": "game", "type": "x"}
    with pytest.raises(DataError, match=r"row 1: scenario: 'game' has no guideline in .*; did you mean games\?"):
        cosapien_items(*files(tmp_path, row), None)
    with pytest.raises(DataError, match="row 1: format cosapien needs column scenario"):
        cosapien_items(*files(tmp_path, {"prompt": "p", "type": "x"}), None)
    source, path = files(tmp_path, row)
    for text, message in (("{", "cannot be read: .*; write a JSON object"), ('{"game": 1}', "must be a JSON object")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            cosapien_items(source, path, None)
