"""Paths and hub names: a path with a slip in it is not taken for a name of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config.paths import looks_local, missing_path


@pytest.mark.parametrize(
    "path",
    [
        *("data/pars.jsonl", "pars.csv", "PARS.CSV", "data/pars.jsonl.gz", "first.safetensors"),
        *("llama3:8b", "here/pars", "./x", "~/x", "a/b/c", "$DIR/x"),
    ],
)
def test_a_path_that_is_not_there_is_still_a_path(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert looks_local(path)
    (problem,) = missing_path("data.path", path, tmp_path)
    assert problem.startswith(f"data.path: {path} does not exist (looked from {tmp_path}); ")


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "Anthropic/hh-rlhf",
        "walledai/HarmBench:standard",
        "meta-llama/Llama-3.1-8B-Instruct",
        "nvidia/Aegis-2.0",
        "a/b.v2",
    ],
)
def test_a_name_of_the_hub_is_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not looks_local(name) and missing_path("data.path", name, tmp_path) == []


def test_the_nearest_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").touch()
    (problem,) = missing_path("data.path", "data/pars.jsonl", tmp_path)
    assert problem.endswith("did you mean data/pairs.jsonl?")


@pytest.mark.parametrize(("path", "meant"), [("pairs", "pairs.jsonl"), ("dat/more", "data/more.csv"), ("date/own", "data/own")])
def test_what_is_nearly_there_is_meant_and_not_the_hub(
    path: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "own").mkdir(parents=True)
    for name in ("pairs.jsonl", "data/more.csv", "gpt2.py"):
        (tmp_path / name).touch()
    assert looks_local(path) and not looks_local("gpt2") and not looks_local("dat/other")
    (problem,) = missing_path("data.path", path, tmp_path)
    assert problem.endswith(f"did you mean {meant}?")
