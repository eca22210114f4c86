"""What is wrong with judges, and with what is evaluated, is said before anything starts."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError

ENDPOINT = {"name": "endpoint", "url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": None}
REFUSAL = {"name": "refusal"}


@cache
def plain() -> dict[str, Any]:
    return composed(["experiment=evaluate", "evaluation=prompts", "judge=refusal"])


@pytest.fixture
def attacks(tmp_path: Path) -> Path:
    path = tmp_path / "attacks.jsonl"
    path.write_text(json.dumps({"prompt": "say 1"}) + "\n" + json.dumps({"prompt": "say 2"}))
    return path


def loaded(attacks: Path, **sections: Any) -> RunConfig:
    values = deepcopy(plain())
    values["evaluation"]["attacks"] = {"a": str(attacks)}
    for name, section in sections.items():
        values[name] = {**values["method"], **section} if name == "method" else section
    return load_config(values)


def problems(attacks: Path, **sections: Any) -> str:
    with pytest.raises(ConfigError) as found:
        loaded(attacks, **sections)
    return str(found.value)


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ({"name": "endpoint"}, "judge.url: missing"),
        (ENDPOINT | {"api_key_env": "NO_SUCH_KEY"}, "judge.api_key_env: the environment variable NO_SUCH_KEY is not set"),
        (ENDPOINT | {"url": "http://me:secret@host/v1"}, "judge.url: String should match pattern"),
        (ENDPOINT | {"url": "host/v1"}, "judge.url: String should match pattern"),
        (ENDPOINT | {"api_key_env": "sk-abc"}, "judge.api_key_env: String should match pattern"),
        (ENDPOINT | {"options": {"stream": True}}, "judge.options: stream cannot be set there"),
        (ENDPOINT | {"price_in": 1}, "judge.price_in: costs need the prices of prompts and of replies"),
        (ENDPOINT | {"concurrency": 0}, "judge.concurrency: Input should be greater than 0"),
        (
            {"name": "exact"},
            "judge: judge=exact cannot read answers to prompts; use judge=model or judge=endpoint or judge=refusal",
        ),
        ({"name": "guardrail"}, "judge.path: judge=guardrail needs the directory of a guardrail"),
        ({"name": "guardrail", "path": "/no/such/place"}, "judge.path: /no/such/place does not exist"),
    ],
)
def test_a_mistake_in_the_main_judge(attacks: Path, judge: dict[str, Any], words: str) -> None:
    assert words in problems(attacks, judge=judge)


@pytest.mark.parametrize(
    ("name", "judge", "words"),
    [
        ("x", {"name": "exact"}, "judges.x: judge=exact cannot read answers to prompts"),
        ("refusal", REFUSAL, "judges.refusal: is the name of the main judge"),
        ("a/b", REFUSAL, "judges.a/b: stands in the results"),
        ("x", {"name": "model"}, "judges.x.path: judge=model needs the judge's model directory"),
        (
            "x",
            REFUSAL | {"path": "y"},
            "judges.x.path: judges.x.name=refusal has no such key; remove it, or choose one that has it",
        ),
        ("x", REFUSAL | {"pth": "y"}, "judges.x.pth: unknown key; "),
        ("x", {"nam": "refusal"}, "judges.x.name: missing; choose judges.x=..."),
        ("x", {"name": "refusl"}, "judges.x.name: unknown 'refusl'; did you mean refusal?"),
        ("x", ENDPOINT | {"api_key_env": "NO_SUCH_KEY"}, "judges.x.api_key_env: the environment variable NO_SUCH_KEY"),
        ("x", ENDPOINT | {"timeout": "soon"}, "judges.x.timeout: Input should be a valid number"),
    ],
)
def test_a_mistake_in_a_further_judge(attacks: Path, name: str, judge: dict[str, Any], words: str) -> None:
    assert words in problems(attacks, judges={name: judge})


def test_a_directory_without_a_guardrail(attacks: Path, tmp_path: Path) -> None:
    found = problems(attacks, judges={"g": {"name": "guardrail", "path": str(tmp_path)}})
    assert f"judges.g.path: {tmp_path}: holds no guardrail of a run" in found


def test_what_cannot_be_evaluated(attacks: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    models = {"base": "sandbox/x", "gone": "/no/such/place", "empty": str(tmp_path), "twice": "hub/name", "bare": str(bare)}
    endpoints = {"twice": {"url": "http://127.0.0.1:1/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}}
    found = problems(attacks, method={"models": models, "endpoints": endpoints, "strength": 2}, evaluation=None)
    for words in (
        "method.models.base: must be letters, digits, _ and -, and no other row's name",
        "method.models.gone: /no/such/place does not exist",
        f"method.models.empty: {tmp_path} holds nothing to evaluate; give a directory with gene.json, ",
        f"method.models.bare: {bare} holds no tokenizer that transformers can load",
        "method.strength: is of aligners, and there is none in method.models",
        "method.endpoints.twice: must be letters, digits, _ and -, and no other row's name",
        "method.endpoints.twice.api_key_env: the environment variable NO_SUCH_KEY is not set",
        "evaluation: method=untrained does nothing else; choose an evaluation.",
    ):
        assert words in found, found


def test_several_judges_on_a_command_line(attacks: Path) -> None:
    far = ["judges.far.name=endpoint", "judges.far.url=http://h/v1", "judges.far.model=m", "judges.far.api_key_env=null"]
    given = [f"evaluation.attacks.a={attacks}", "judge=refusal", *far, "+judge@judges.near=refusal"]
    config = load_config(composed(["experiment=evaluate", "evaluation=prompts", *given]))
    assert config.judges_by_key.keys() == {"judge", "judges.far", "judges.near"}
    assert config.judges["far"].name == "endpoint" and config.judges["near"].name == "refusal"
