"""Papers' tables: which runs they need, and our rows below the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.compare.test_compare import compared, finished, share
from tests.sweep.fabricate import finish
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.errors import ConfigError
from trainer.reproduce import __main__ as command
from trainer.reproduce.published import PLACES, TABLES
from trainer.reproduce.table import shown
from trainer.vocabulary import measure_of


def test_every_published_value_has_a_name_a_direction_and_stands_in_its_range() -> None:
    for method, table in TABLES.items():
        for line in table.lines:
            for name, value in line.values.items():
                measure = measure_of(name)
                low, high = measure.range
                assert measure.direction and (low is None or value >= low) and (high is None or value <= high), (method, line)


@pytest.mark.parametrize("method", sorted(TABLES))
def test_the_experiments_on_the_sandbox_have_the_models_of_the_table(method: str) -> None:
    labels = set()
    for experiment in TABLES[method].experiments["sandbox"]:
        config = load_config(composed([f"experiment={experiment}"]))
        labels |= {contender.label.replace("arithmetic/", "mean/") for contender in config.method.contenders(config)}
        tasks = {label.partition("/")[2] for label in labels if "/" in label}
        labels |= {f"mean/{task}" for task in tasks} | set(getattr(config.method, "guardrails", ()))
        labels |= set(getattr(config.method, "baselines", ()))
    assert {line.ours for line in TABLES[method].lines if line.ours} <= labels


def test_ours_stand_below_the_published_rows_and_say_what_they_are(tmp_path: Path) -> None:
    models = {
        "base": {"asr": share(0.7, 0.6, 0.8), "capability": 0.9},
        "sft_dpo": {"asr": share(0.1, 0.05, 0.2), "capability": 0.8},
    }
    run = finished(tmp_path, "a", models, method={"name": "dpo"})
    rows = shown(TABLES["safesteer"], compared(run)).rows
    place = next(i for i, row in enumerate(rows) if row[0] == "DPO-Mix")
    assert rows[place][1:] == ["paper, arXiv 2606.02530", "Qwen3-4B-Instruct-2507", "not stated here", "0.017", "0.671"]
    assert rows[place + 1][1:] == ["here, seed 0, commit c0ffee", "sandbox", "1 x CPU", "0.100 [0.050, 0.200]", "0.800"]
    assert sum(row[1].startswith("here") for row in rows) == 2  # SafeSteer itself was not run
    assert len(shown(TABLES["safesteer"], None).rows) == len(TABLES["safesteer"].lines)


def test_guardrails_have_a_row_each_with_every_set_as_a_column(tmp_path: Path) -> None:
    areas = {"guardrail_auc/lst/seen": share(0.9, 0.8, 1.0), "guardrail_auc/standalone/seen": 0.6}
    models = {"base": {"asr": 0.5, "capability": 0.9, **areas}, "dpo": {"asr": 0.1}}
    words = shown(TABLES["dsa"], compared(finished(tmp_path, "a", models, method={"name": "dpo"})))
    column = words.headings.index("ROC AUC, seen ↑")
    ours = {row[0]: row for row in words.rows if row[1].startswith("here")}
    assert {name: row[column] for name, row in ours.items()} == {
        "DSA guardrail": "0.900 [0.800, 1.000]",
        "guardrail on its own": "0.600",
    }
    assert {row[words.headings.index("safety gain ↑")] for row in ours.values()} == {"-"}


def test_it_runs_what_the_table_needs_and_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []

    def train(arguments: list[str]) -> int:
        """In place of an hour."""
        started.append(arguments)
        config: Any = load_config(composed(arguments))
        finish(config, {"base": {"asr": 0.5}, "safesteer" if len(started) < 3 else "sft_dpo": {"asr": len(started) / 10}})
        return 0

    monkeypatch.setattr(command, "train", train)
    assert command.main(["safesteer", "--seeds", "0,1", "--runs", str(tmp_path), "launcher.processes=1"]) == 0
    assert [(one[0], one[1]) for one in started] == [
        (f"experiment={experiment}", f"seed={seed}") for experiment in ("safesteer", "dpo_mix") for seed in (0, 1)
    ]
    assert (tmp_path / "reproduce" / "safesteer" / "seed=1" / "results.json").exists()
    printed = capsys.readouterr().out
    assert "here, seeds 0, 1" in printed and "0.150" in printed and "0.350" in printed and "Qwen3-4B-Instruct-2507" in printed


def test_a_run_that_fails_ends_it_with_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(arguments: list[str]) -> int:
        raise SystemExit(75)

    monkeypatch.setattr(command, "train", train)
    assert command.main(["cosalign", "--runs", str(tmp_path)]) == 75


def test_a_place_without_an_experiment_is_refused() -> None:
    with pytest.raises(ConfigError, match="safegene has no experiment on paper; there are those on sandbox, real"):
        command.runs_of("safegene", "paper", [0])
    assert all(set(table.experiments) == set(PLACES) for table in TABLES.values())
