"""The table over seeds: of a sweep's directory, of runs, and of runs that have little in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.over_seeds import main
from tests.sweep.fabricate import finish, run_config
from trainer.pipeline.run import run_directory


def finished(runs: Path, name: str, models: dict[str, dict[str, float]], **sections: Any) -> Path:
    config = run_config(runs, name, **sections)
    finish(config, {model: {metric: {"value": value} for metric, value in scores.items()} for model, scores in models.items()})
    results = run_directory(config) / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"provenance": {"git_commit": "c0ffee"}}))
    return run_directory(config)


def tables(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    main([*arguments, "--json", str(tmp_path / "rows.json")])
    found: list[dict[str, Any]] = json.loads((tmp_path / "rows.json").read_text())["tables"]
    return found


def test_a_sweeps_directory_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        finished(tmp_path, f"seeds/seed={seed}", {"base": {"capability": 0.9}, "sft": {"capability": value}}, seed=seed)
    (tmp_path / "seeds" / "sweep").mkdir()
    (tmp_path / "seeds" / "sweep.jsonl").touch()
    (tmp_path / "seeds" / "seed=3").mkdir()  # not finished
    (table,) = tables(tmp_path, str(tmp_path / "seeds"))
    assert table["rows"] == [["base", "0.900 ±0.000"], ["sft", "0.600 ±0.248"]]
    assert "seeds [0, 1, 2], commit c0ffee" in table["caption"]
    matched = [str(path) for path in sorted((tmp_path / "seeds").iterdir())]
    capsys.readouterr()
    assert tables(tmp_path, *matched) == [table]
    assert "passed over: seed=3, sweep, sweep.jsonl" in capsys.readouterr().out


def test_runs_of_different_settings_and_methods_get_a_table_each(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished(tmp_path, f"s{seed}", {"sft": {"capability": 0.5}}, seed=seed)
    finished(tmp_path, "d", {"dpo": {"asr": 0.25}}, method={"name": "dpo"})
    found = tables(tmp_path, *(str(tmp_path / name) for name in ("s0", "s1", "d")))
    assert [table["rows"] for table in found] == [[["sft", "0.500 ±0.000"]], [["dpo", "0.250"]]]


def test_what_some_seeds_lack_is_counted(tmp_path: Path) -> None:
    finished(tmp_path, "x/seed=0", {"base": {"guardrail_auc/lst/seen": 0.5}, "sft": {"capability": 0.5}})
    finished(tmp_path, "x/seed=1", {"base": {"guardrail_auc/lst/seen": 0.7, "capability": 1.0}}, seed=1)
    models, areas = tables(tmp_path, str(tmp_path / "x"))
    assert models["rows"] == [["base", "1.000 (n = 1)"], ["sft", "0.500 (n = 1)"]]
    assert areas["rows"] == [["lst", "0.600 ±1.271"]]


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no finished run in"):
        main([str(tmp_path)])
