"""Runs side by side, from directories that look as finished runs do."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.fabricate import finish, response, run_config
from trainer.compare.__main__ import main
from trainer.compare.build import compare
from trainer.compare.comparison import Cell, Comparison
from trainer.errors import ConfigError
from trainer.pipeline.run import run_directory
from trainer.results.directories import read_directories

ATTACKS = {"benchmark": "sandbox_safety"}


def finished(runs: Path, name: str, models: dict[str, Any], *, responses: Any = (), costs: Any = None, **sections: Any) -> Path:
    config = run_config(runs, name, **{"evaluation": ATTACKS, **sections})
    finish(config, models, responses, costs)
    return run_directory(config)


def compared(*given: Path) -> Comparison:
    return compare(*read_directories(given))


def cell(found: Comparison, row: str, metric: str) -> Cell:
    (one,) = [one for one in found.cells if (one.row, one.metric) == (row, metric)]
    return one


def share(value: float, low: float, high: float, n: int = 50) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high], "n": n}


def test_seeds_are_one_row_and_other_settings_another(tmp_path: Path) -> None:
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        finished(tmp_path, f"s/{seed}", {"base": {"asr": 0.9}, "sft": {"asr": share(value, 0, 1)}}, seed=seed)
    finished(tmp_path, "s/other", {"sft": {"asr": 0.1}}, sft={"learning_rate": 1e-3})
    found = compared(tmp_path / "s")
    assert [(one.key, one.runs) for one in found.settings] == [
        ("sft[sft.learning_rate=-]", ["s/0", "s/1", "s/2"]),
        ("sft[sft.learning_rate=0.001]", ["s/other"]),
    ]
    mean = cell(found, "sft[sft.learning_rate=-]/sft", "safety/asr")
    assert (mean.value, mean.over, mean.n) == (pytest.approx(0.6), "seeds", 3)
    assert mean.high == pytest.approx(0.6 + 0.2484, abs=1e-4)
    assert mean.by_run["s/1"].value == 0.6 and mean.by_run["s/1"].high == 1


def test_methods_stand_in_one_table_with_their_own_models_named(tmp_path: Path) -> None:
    a = finished(tmp_path, "a", {"base": {"asr": 0.9, "capability": 0.9}, "sft": {"asr": 0.3, "capability": 0.8}})
    b = finished(tmp_path, "b", {"base": {"asr": 0.9, "capability": 0.9}, "dpo": {"asr": 0.2}}, method={"name": "dpo"})
    found = compared(a, b)
    assert [(row.key, row.role, row.setting) for row in found.rows] == [
        ("base", "base", None),
        ("sft/sft", "own", "sft"),
        ("dpo/dpo", "own", "dpo"),
    ]
    assert {one.name for one in found.metrics} == {"safety/asr", "capability/accuracy"}
    (front,) = found.paretos
    assert {point.row for point in front.points} == {"base", "sft/sft"}  # dpo has no capability
    assert found.settings[0].settings["method.name"] == "sft"


def test_what_is_the_same_for_every_seed_is_one_measurement(tmp_path: Path) -> None:
    """Neither the base over three seeds, nor a model that never failed, is certain."""
    for seed in range(3):
        models = {"base": {"asr": share(0.9, 0.8, 0.95)}, "sft": {"asr": share(0.0, 0.0, 0.07 + seed / 100, 50)}}
        finished(tmp_path, f"s/{seed}", models, seed=seed)
    found = compared(tmp_path / "s")
    base = cell(found, "base", "safety/asr")
    assert (base.value, base.low, base.high, base.n, base.over) == (0.9, 0.8, 0.95, 50, "prompts")
    zero = cell(found, "sft/sft", "safety/asr")
    assert (zero.value, zero.low, zero.high, zero.over) == (0, 0, pytest.approx(0.09), "prompts")


@pytest.mark.parametrize("again", ["path", "link", "copy", "sweep"])
def test_a_run_given_twice_is_refused(tmp_path: Path, again: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = finished(tmp_path, "s/a", {"sft": {"asr": 0.5}})
    second = {"path": first, "link": tmp_path / "link", "copy": tmp_path / "copy", "sweep": tmp_path / "s"}[again]
    if again == "link":
        second.symlink_to(first)
    if again == "copy":
        shutil.copytree(first, second)
    assert main([str(first), str(second)]) == 2
    assert "give it once" in capsys.readouterr().err


def test_the_same_seed_twice_is_not_averaged(tmp_path: Path) -> None:
    """It was measured again: that is no second seed."""
    for name, value in (("a", 0.1), ("b", 0.3)):
        finished(tmp_path, name, {"sft": {"asr": value}})
    found = compared(tmp_path / "a", tmp_path / "b")
    assert [(one.key, one.runs) for one in found.settings] == [("sft[a]", ["a"]), ("sft[b]", ["b"])]


def ruin(run: Path, how: str) -> None:
    results = run / "results.json"
    values = json.loads(results.read_text())
    if how == "no results":
        results.unlink()
    elif how == "cut off":
        results.write_text(results.read_text()[:40])
    elif how == "a list":
        results.write_text("[]")
    elif how == "no roles":
        results.write_text(json.dumps({key: value for key, value in values.items() if key != "roles"}))
    elif how == "a word for a number":
        values["models"]["sft"]["asr"]["value"] = "high"
        results.write_text(json.dumps(values))
    elif how == "config":
        (run / "config.yaml").write_text("seed: [")
    elif how == "config is text":
        (run / "config.yaml").write_text("seed")
    elif how == "responses":
        (run / "evaluate" / "responses.jsonl").write_text('{"model": "sft"')
    elif how == "responses lack a key":
        (run / "evaluate" / "responses.jsonl").write_text('{"model": "sft"}\n')
    elif how == "bytes":
        results.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    "how",
    [
        "no results", "cut off", "a list", "no roles", "a word for a number", "config", "config is text", "responses",
        "responses lack a key", "bytes",
    ],
)  # fmt: skip
def test_a_damaged_run_is_named_and_left_out(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path, "s/good", {"sft": {"asr": 0.5}})
    ruin(finished(tmp_path, "s/bad", {"sft": {"asr": 0.6}}, seed=1), how)
    assert main([str(tmp_path / "s"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert f"left out: {tmp_path / 's' / 'bad'}: " in printed and "1 run of sft" in printed
    assert str(tmp_path / "s" / "bad") in (tmp_path / "out" / "report.md").read_text()


def test_where_nothing_is_left_the_reasons_are_the_error(tmp_path: Path) -> None:
    ruin(finished(tmp_path, "bad", {"sft": {"asr": 0.6}}), "cut off")
    with pytest.raises(ConfigError, match=r"bad: results\.json is damaged"):
        compared(tmp_path / "bad")
    with pytest.raises(ConfigError, match="no run is there"):
        compared(tmp_path / "nowhere")


def answers(model: str, unsafe: set[int], n: int = 20) -> list[dict[str, Any]]:
    return [response(model, str(i), risks=["harm"] if i in unsafe else []) for i in range(n)]


def test_models_are_tested_on_the_prompts_that_both_answered(tmp_path: Path) -> None:
    lines = answers("base", set(range(12))) + answers("sft", {0, 1})
    a = finished(tmp_path, "a", {"base": {"asr": 0.6}, "sft": {"asr": 0.1}}, responses=lines)
    other = [*answers("dpo", {0, 1, 2, 3, 4}), response("dpo", "another")]
    b = finished(tmp_path, "b", {"dpo": {"asr": 0.25}}, responses=other, method={"name": "dpo"})
    found = {(one.a, one.b): one for one in compared(a, b).contrasts}
    assert set(found) == {("base", "sft/sft"), ("sft/sft", "dpo/dpo")}
    one = found["base", "sft/sft"]
    assert (one.test, one.only_a, one.only_b, one.n) == ("McNemar, exact", 10, 0, 20)
    assert one.p == pytest.approx(2 * 0.5**10) and one.p_holm == pytest.approx(4 * 0.5**10)
    two = found["sft/sft", "dpo/dpo"]
    assert (two.only_a, two.only_b, two.n, two.p, two.p_holm) == (0, 3, 20, 0.25, 0.25)


def test_several_seeds_are_tested_over_prompts_and_over_seeds(tmp_path: Path) -> None:
    for seed in range(3):
        lines = answers("base", set(range(12))) + answers("sft", set(range(seed + 1)))
        models = {"base": {"asr": share(0.6, 0.4, 0.8)}, "sft": {"asr": (seed + 1) / 20}}
        finished(tmp_path, f"s/{seed}", models, responses=lines, seed=seed)
    contrasts = {one.over: one for one in compared(tmp_path / "s").contrasts if one.metric == "safety/asr"}
    assert contrasts["prompts"].test == "bootstrap, paired" and contrasts["prompts"].difference == pytest.approx(-0.5)
    assert contrasts["seeds"].test == "t, paired" and contrasts["seeds"].difference == pytest.approx(-0.5)


def test_scores_of_configs_count_alike_however_many_prompts(tmp_path: Path) -> None:
    lines = []
    for model, sign in (("base", -1.0), ("sft", 1.0)):
        for config, n in (("none", 30), ("drugs", 10)):
            score = sign if config == "none" else 0.0
            lines += [
                response(model, f"{config}{i}", "cosa", split="seen", safety_config=config, score=score, keeps=score >= 0)
                for i in range(n)
            ]
    found = compared(
        finished(tmp_path, "a", {"base": {"cosa_score/seen": -0.5}, "sft": {"cosa_score/seen": 0.5}}, responses=lines)
    )
    (one,) = found.contrasts
    assert (one.metric, one.test, one.difference, one.n) == ("cosa/score/seen", "bootstrap, paired", 1.0, 40)
    assert {prompt.safety_config for prompt in found.prompts if prompt.differs} == {"none"}


def test_the_words_for_a_response(tmp_path: Path) -> None:
    lines = [
        response("sft", "0", risks=["harm"], judge={"q": "yes"}), response("sft", "1", refused=True), response("sft", "2"),
        response("sft", "3", valid=False, risks=None, refused=None), response("sft", "4", "capability", correct=True),
        response("sft", "5", "task", correct=False), response("sft", "6", "over_refusal", refused=True),
        response("sft", "7", "over_refusal"),
        response("sft", "8", "cosa", split="seen", score=-1.0, keeps=False, risks=["drugs"]),
        response("sft", "9", "cosa", split="seen", score=1.0, keeps=True, risks=["drugs"]),
    ]  # fmt: skip
    found = compared(finished(tmp_path, "a", {"sft": {"asr": 0.5}}, responses=lines))
    words = ["unsafe", "refused", "safe", "invalid", "right", "wrong", "refused", "answered", "unsafe", "answered"]
    assert [one.outcome for one in found.responses] == words
    assert found.responses[0].replies == {"q": "yes"}


def test_what_further_judges_say_stands_beside_the_first(tmp_path: Path) -> None:
    """One in words, one that only tells whether an answer refuses."""
    second = {"judge": {"safe?": "no"}, "valid": True, "risks": ["harm"], "refused": None, "correct": None}
    third = {"judge": {}, "valid": True, "risks": None, "refused": True, "correct": None}
    line = response("sft", "0", judge={"safe?": "yes"}, judges={"other": second, "phrases": third})
    found = compared(finished(tmp_path, "a", {"sft": {"asr": 0.5}}, responses=[line]))
    assert found.responses[0].replies == {"safe?": "yes", "other: safe?": "no", "phrases": "refused"}


def test_what_a_judge_does_not_tell_is_not_taken_for_safe(tmp_path: Path) -> None:
    lines = [response(model, str(i), risks=None if i else [], refused=True) for model in ("base", "sft") for i in range(5)]
    found = compared(finished(tmp_path, "a", {"base": {"asr": 0.0}, "sft": {"asr": 0.0}}, responses=lines))
    assert [one.n for one in found.contrasts] == [1]


def test_every_output_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = answers("base", set(range(12))) + answers("sft", {0, 1})
    models = {"base": {"asr": share(0.6, 0.4, 0.8), "capability": 0.9}, "sft": {"asr": share(0.1, 0.0, 0.3), "capability": 0.8}}
    run = finished(tmp_path, "a_b", models, responses=lines, costs={"sft": {"cpu_hours": 1.5, "tokens": 684020}})
    (run / "sft").mkdir(exist_ok=True)
    (run / "sft" / "metrics.jsonl").write_text('{"step": 5, "train/loss": 2.0}\n{"step": 5, "train/loss": NaN}\n{"step"')
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "684k" in printed and "not beaten in attack success and capability: " in printed
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| sft/sft | 0.100 [0.000, 0.300] | 0.800 |" in report and "| unsafe; in responses.jsonl |" not in report
    table = (tmp_path / "out" / "table.tex").read_text()
    assert r"sft/sft & 0.100 {\scriptsize [0.000, 0.300]} & 0.800 & 1.5 & 684k \\" in table
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert {row["metric"] for row in rows} == {"safety/asr", "capability/accuracy", "cost/cpu_hours", "cost/tokens"}
    assert [row["value"] for row in rows if row["metric"] == "cost/tokens"] == ["684020.0"] * 2
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    assert (tmp_path / "out" / "safety-asr_capability-accuracy.png").stat().st_size > 1000
    (curve,) = compared(run).curves
    assert (curve.stage, curve.steps, curve.values) == ("sft", [5], [2.0])


def test_what_a_judge_did_not_understand_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = {"value": None, "ci95": None, "n": 0, "missing": ["none"]}
    run = finished(tmp_path, "a", {"sft": {"asr": missing, "capability": 0.5}})
    assert main([str(run)]) == 0
    assert "sft/sft: safety/asr is missing, for no judgement of none was understood" in capsys.readouterr().out


def test_two_hundred_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, first = random.Random(0), finished(tmp_path, "first", {"base": {"asr": 0.5}, "sft": {"asr": 0.5}})
    config, results = (first / "config.yaml").read_text(), json.loads((first / "results.json").read_text())
    for index in range(200):
        (run := tmp_path / "s" / str(index)).mkdir(parents=True)
        rate = f"sft:\n  learning_rate: {1 + index // 5}.0e-05\n"
        (run / "config.yaml").write_text(config.replace("seed: 0", f"seed: {index % 5}").replace("sft: {}\n", rate))
        metrics = {
            label: {"asr": share(rng.random(), 0, 1), "capability": share(rng.random(), 0, 1)} for label in ("base", "sft")
        }
        (run / "results.json").write_text(json.dumps({**results, "run": f"s/{index}", "models": metrics}))
    assert main([str(tmp_path / "s"), "--out", str(tmp_path / "out")]) == 0
    assert "200 runs of sft" in capsys.readouterr().out
    rows = [row for row in csv.DictReader((tmp_path / "out" / "table.csv").open()) if row["role"] == "own" and not row["run"]]
    assert len(rows) == 2 * 40 and {row["over"] for row in rows} == {"seeds"}
