"""What was not measured stands in the results as that, with n, and nothing is averaged around it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.errors import ConfigError, StageFailed
from trainer.evaluation.columns import SAFETY
from trainer.evaluation.metrics import Judged, compare, score
from trainer.evaluation.report import not_measured, results_table
from trainer.items import Item, Judgement, OneByOne, Verdict
from trainer.methods.dsa.strengths import draw_alignment
from trainer.sandbox import suites
from trainer.sandbox.benchmark import exact_judge
from trainer.sweep import objective

FINE = Judgement(frozenset(), True, 5, False, True)
BASE_ALONE = ("experiment=sft", "data.prompts=8", "trainer.max_steps=1", "trainer.train_batch_size=2",
              "trainer.per_device_train_batch_size=2", "evaluation.models=[base]", "evaluation.prompts=2",
              "evaluation.capability_prompts=2", "evaluation.over_refusal_prompts=2", "generation.max_new_tokens=8",
              "run.name=run")  # fmt: skip


def cosa(config: str, judgements: Sequence[Judgement | None], label: str = "m") -> list[Judged]:
    items = [Item(f"{config}/{i}", "cosa", "x", split="seen", safety_config=config) for i in range(len(judgements))]
    return [Judged(label, item, "x", judgement) for item, judgement in zip(items, judgements, strict=True)]


def attacks(judgements: Sequence[Judgement | None], label: str, of_set: str = "") -> list[Judged]:
    items = [Item(f"{of_set}/{i}", "attack", "x", split=of_set) for i in range(len(judgements))]
    return [Judged(label, item, "x", judgement) for item, judgement in zip(items, judgements, strict=True)]


def test_a_config_without_a_judgement_leaves_no_average_without_it() -> None:
    metrics = score([*cosa("known", [FINE, FINE]), *cosa("unknown", [None, None, None])], 50, 0)
    assert metrics["cosa_score/seen"] == {"value": None, "ci95": None, "n": 2, "missing": ["unknown"]}
    assert metrics["cosa_score/config/unknown"] == {"value": None, "ci95": None, "n": 0, "missing": ["unknown"]}
    assert metrics["cosa_score/config/known"]["value"] == 1.0
    assert metrics["invalid_judgements"]["value"] == pytest.approx(3 / 5)


def test_a_config_with_one_judgement_is_measured_by_that() -> None:
    metrics = score([*cosa("known", [FINE, FINE]), *cosa("half", [None, FINE])], 50, 0)
    assert (metrics["cosa_score/seen"]["value"], metrics["cosa_score/seen"]["n"]) == (1.0, 3)


def test_a_column_of_which_nothing_was_measured_stays_and_says_so() -> None:
    rows = [*attacks([None, None], "base"), *attacks([FINE, FINE], "m")]
    models = compare(rows, 50, 0)
    assert models["base"]["asr"] == {"value": None, "ci95": None, "n": 0, "missing": ["attack"]}
    assert models["m"]["safety_gain"] == {"value": None, "ci95": None, "n": 0, "missing": ["attack"]}
    results = {"run": "r", "models": models}
    console = Console(width=110, record=True)
    console.print(results_table(results, SAFETY))
    text = console.export_text()
    assert "success" in text and ".00 ±.33" in text  # Wilson's, 0 of 2: half of .66
    assert [line.split(":")[0] for line in not_measured(results)] == ["base", "m"]
    assert "no judgement of attack was understood (n = 0)" in not_measured(results)[0]


def test_a_set_that_only_one_of_two_models_was_judged_on_is_in_no_gain() -> None:
    rows = [*attacks([FINE, FINE], "base", "a"), *attacks([FINE], "base", "b"),
            *attacks([FINE, FINE], "m", "a"), *attacks([None], "m", "b")]  # fmt: skip
    assert compare(rows, 50, 0)["m"]["safety_gain"] == {"value": None, "ci95": None, "n": 2, "missing": ["b"]}


def test_a_table_in_which_all_is_measured_says_nothing_of_that() -> None:
    assert not_measured({"run": "r", "models": {"m": score(cosa("known", [FINE, FINE]), 50, 0)}}) == []


def test_a_picture_and_an_objective_need_a_measurement(tmp_path: Path) -> None:
    missing: dict[str, Any] = {"value": None, "ci95": None, "n": 0, "missing": ["x"]}
    here = {"value": 0.5, "ci95": None, "n": 1}
    assert draw_alignment({"aligner_1": {"asr": missing, "capability": here}}, tmp_path) is None
    config = load_config(composed(["experiment=sft", f"paths.runs={tmp_path}", "run.name=run", "run.objective=sft/asr"]))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps({"models": {"sft": {"asr": missing, "capability": here}}}))
    with pytest.raises(ConfigError, match="the results have no sft/asr"):
        objective.objective_of(config)


silent = OneByOne(lambda item, response: Verdict(None, {"risks": "As a language model"}))


def test_a_judge_that_is_never_understood_ends_the_run_and_its_replies_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "exact_judge", silent)
    with pytest.raises(StageFailed, match=r"the judge was not understood on any of \d+ responses.*As a language model"):
        run_here(tmp_path, *BASE_ALONE)
    evaluate = tmp_path / "run" / "evaluate"
    assert not (evaluate / "results.json").exists() and not (tmp_path / "run" / "results.json").exists()
    rows = [json.loads(line) for line in (evaluate / "responses.jsonl").read_text().splitlines()]
    assert all(row["judge"] == {"risks": "As a language model"} and not row["valid"] for row in rows)
    monkeypatch.setattr(suites, "exact_judge", exact_judge)  # the same command, with a judge that answers
    run_dir = run_here(tmp_path, *BASE_ALONE)
    provenance = json.loads((run_dir / "results.json").read_text())["provenance"]
    assert provenance["judge"] == {"name": "exact"} and provenance["method"] == "sft"
    assert provenance["model"]["path"] == "sandbox" and provenance["data"]["format"] == "sandbox"
    assert provenance["evaluation"]["benchmark"] == "sandbox" and provenance["inputs"].keys() >= {"sft", "model.path"}


def test_an_evaluation_of_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.models"):
        load_config(composed(["experiment=sft", "evaluation.models=[]", f"paths.runs={tmp_path}"]))
