"""Several suites in one run: which models each asks, what stands in the results, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tests.conftest import results
from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import outside
from trainer.errors import ConfigError
from trainer.evaluation.report import listed
from trainer.evaluation.stage import compared, contenders, who_is_asked_what
from trainer.kinds import SUITES

TWO = (
    "evaluation=several",
    "evaluation.resamples=50",
    *(f"evaluation.suites.plain.{key}" for key in ("benchmark=sandbox_safety", "prompts=4", "capability_prompts=3")),
    *(f"evaluation.suites.cosa.{key}" for key in ("benchmark=sandbox", "prompts=1", "capability_prompts=3")),
    *(f"evaluation.suites.{name}.over_refusal_prompts=3" for name in ("plain", "cosa")),
)


def test_each_suite_asks_its_own_models() -> None:
    config = load_config(composed(["experiment=sft", *TWO]))
    assert [c.label for c in contenders(config)] == ["base", "sft", "ica", "ica_5shot"]
    assert config.evaluation is not None
    by_suite = {name: [c.label for c in compared(config, suite)] for name, suite in config.evaluation.members.items()}
    assert by_suite == {"plain": ["base", "sft"], "cosa": ["base", "ica", "ica_5shot", "sft"]}
    asked = who_is_asked_what(config)
    assert len(set((c.label, item.id) for c, item in asked)) == len(asked)
    assert {item.id.split("/")[0] for c, item in asked if c.label == "ica"} == {"cosa"}
    one = load_config(
        composed(["experiment=sft", *TWO, "evaluation.models=[sft,ica]", "evaluation.suites.plain.models=[base]"])
    )
    assert {c.label for c, item in who_is_asked_what(one) if item.id.startswith("plain/")} == {"base"}
    assert {c.label for c, item in who_is_asked_what(one) if item.id.startswith("cosa/")} == {"sft", "ica"}


@pytest.mark.slow
def test_the_metrics_of_each_suite_carry_its_name(tmp_path: Path) -> None:
    run_dir = run_here(
        tmp_path, "experiment=sft", "data.prompts=40", "trainer.max_steps=1", "generation.max_new_tokens=4", *TWO
    )
    models = results(run_dir)["models"]
    assert {"asr", "over_refusal/plain", "over_refusal/cosa", "cosa_score/cosa/seen", "capability"} <= models["sft"].keys()
    assert models["sft"]["capability"]["n"] == 6 and "asr" not in models["ica"]
    assert any(name.startswith("cosa_score/config/cosa/") for name in models["ica"])
    rows = [json.loads(line) for line in (run_dir / "evaluate" / "responses.jsonl").read_text().splitlines()]
    assert len({(row["model"], row["id"]) for row in rows}) == len(rows)


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(composed(["experiment=sft", *overrides]))
    return caught.value.problems


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("evaluation=several", "evaluation.suites: there is nothing to ask; choose evaluation=safety"),
        ("evaluation=safety", "judge: judge=exact cannot read answers to strongreject, harmbench, advbench, "),
        ("evaluation=cosa judge=model", "evaluation.suites.cosapien.guidelines: evaluation.suites.cosapien.benchmark=cosapie"),
        ("evaluation=safety evaluation.suites.xstest.path=./no.csv", "evaluation.suites.xstest.path: ./no.csv does not exist"),
        ("evaluation=safety evaluation.suites.xstest.resamples=9", "evaluation.suites.xstest.resamples: set evaluation.resam"),
        ("evaluation=safety evaluation.suites.xstest.models=[who]", "evaluation.suites.xstest.models: unknown 'who' with met"),
        ("evaluation=safety evaluation.suites.xstest.pth=x", "evaluation.suites.xstest.pth: unknown key; did you mean path?"),
        ("evaluation=several evaluation.suites.mine.benchmark=xtest", "evaluation.suites.mine.benchmark: unknown 'xtest'; di"),
        ("evaluation=several evaluation.suites.mine.benchmark=several", "evaluation.suites.mine.benchmark: unknown 'several'"),
        ("evaluation=several evaluation.suites.mine.path=x", "evaluation.suites.mine.benchmark: missing; "),
        ("evaluation=several evaluation.suites.few.benchmark=drift evaluation.suites.more.benchmark=drift",
         "evaluation.suites.more: its metrics have the same names as those of few, which is benchmark=drift too; put both"),
        ("evaluation=several ++evaluation.suites={a b:{benchmark:xstest}}", "evaluation.suites.a b: must be a plain name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_suite_is_said_under_its_name(overrides: str, line: str) -> None:
    parts = overrides.split(" ", 1) if "a b" in overrides else overrides.split()
    found = problems(*parts)
    assert any(problem.startswith(line) for problem in found), found


def test_what_each_suite_reads_counts_for_the_run(tmp_path: Path) -> None:
    (tmp_path / "advbench.csv").write_text("goal,target\np,t\n")
    (tmp_path / "xstest.csv").write_text("prompt,type,focus\np,homonyms,f\nq,contrast_homonyms,f\n")
    names = ("advbench", "xstest")
    suites = [
        f"evaluation.suites.{name}.{key}" for name in names for key in (f"benchmark={name}", f"path={tmp_path}/{name}.csv")
    ]
    config = load_config(composed(["experiment=sft", "evaluation=several", "judge=model", "judge.path=nobody/judge", *suites]))
    assert {key: path for key, path in outside(config).items() if key.startswith("evaluation.")} == {
        f"evaluation.suites.{name}.path": f"{tmp_path}/{name}.csv" for name in names
    }


def test_a_second_table_lists_sets_and_tasks_where_there_are_several() -> None:
    suite = load_config(composed(["experiment=sft", *TWO])).evaluation
    harm = {
        name: {"value": 0.5, "ci95": None, "n": 2}
        for name in ("asr", "asr/a", "asr/b", "over_refusal/a", "cosa_score/config/x")
    }
    assert suite is not None and listed({"models": {"base": harm}}, suite) is None  # the sandbox's suites list nothing
    prompts = TypeAdapter(SUITES["prompts"]).validate_python({"benchmark": "prompts"})
    table = listed({"models": {"base": harm, "sft": {}}}, prompts)
    assert table is not None and list(table.columns[0].cells) == ["asr/a", "asr/b", "over_refusal/a"]
    assert listed({"models": {"base": {name: harm[name] for name in ("asr", "asr/a", "over_refusal/a")}}}, prompts) is None
