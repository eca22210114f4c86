"""Unpaired replies: what a file may say, what is left out and counted, and how the sandbox labels what it makes."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data import reading
from trainer.cosa.taxonomy import OTHER_HARMS
from trainer.data.replies import Replies, Reply, kto_examples
from trainer.errors import DataError
from trainer.sandbox import unpaired
from trainer.sandbox.judge import judge
from trainer.sandbox.requests import Request
from trainer.sandbox.world import SANDBOX_TAXONOMY

ROW = {"prompt": "q", "completion": "a", "label": True}
USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def read(tmp_path: Path, *rows: dict[str, Any], **more: Any) -> Replies:
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found: Any = reading.read("unpaired", str(path), **more)
    assert isinstance(found, Replies)
    return found


# ------------------------------------------------------------------------------------------------------------------ files
def test_text_and_chat_messages_say_the_same(tmp_path: Path) -> None:
    chat = {"prompt": [USER], "completion": [ASSISTANT], "label": True}
    assert read(tmp_path, ROW, chat).replies == [Reply((USER,), "a", True)] * 2
    (under_a_config,) = read(tmp_path, {**chat, "prompt": [SYSTEM, USER]}).replies
    assert under_a_config.prompt == (SYSTEM, USER)


@pytest.mark.parametrize(
    ("label", "desirable"),
    [(True, True), (False, False), (1, True), (0, False), ("true", True), ("False", False), ("1", True), ("0", False)],
)
def test_a_label_is_a_truth_value_or_0_or_1_also_as_text(tmp_path: Path, label: Any, desirable: bool) -> None:
    assert [reply.desirable for reply in read(tmp_path, {**ROW, "label": label}).replies] == [desirable]


def test_csv_has_text_in_every_cell(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("prompt,completion,label\nq,a,true\nq,b,0\n")
    found: Any = reading.read("unpaired", str(tmp_path / "f.csv"))
    assert found.replies == [Reply((USER,), "a", True), Reply((USER,), "b", False)]


def test_blank_completions_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read(tmp_path, ROW, {**ROW, "completion": " \n"}, {**ROW, "completion": [{**ASSISTANT, "content": ""}]})
    assert (len(found.replies), found.rows, found.dropped) == (1, 3, Counter({"empty completion": 2}))


def test_a_limit_takes_both_sides_of_a_sorted_file(tmp_path: Path) -> None:
    rows = [{**ROW, "completion": f"{label} {i}", "label": label} for label in (True, False) for i in range(20)]
    found = read(tmp_path, *rows, limit=10)
    assert (found.rows, found.desirable) == (10, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "good"}, r"label is 'good'; it must be true or 1 \(desirable\), or false or 0"),
        ({"label": 0.5}, r"label is 0\.5; it must be true or 1"),
        ({"label": 2}, r"label is 2; it must be true or 1"),
        ({"label": None}, r"label is None; it must be true or 1"),
        ({"completion": None}, r"completion must be text or a list of {role, content} messages"),
        ({"completion": [USER]}, r"completion must be text or one assistant message"),
        ({"completion": [ASSISTANT, ASSISTANT]}, r"completion must be text or one assistant message"),
        ({"prompt": [USER, ASSISTANT]}, r"prompt must end with a user message"),
        ({"prompt": 5}, r"prompt must be text or a list of {role, content} messages"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_row(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(str(tmp_path))}/f\.jsonl: row 2: {message}"):
        read(tmp_path, ROW, {**ROW, **change})


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: format unpaired needs column label; it has prompt, completion"):
        read(tmp_path, {"prompt": "q", "completion": "a"})


@pytest.mark.parametrize(("label", "lacking"), [(True, "undesirable"), (False, "desirable")])
def test_one_side_alone_is_refused(tmp_path: Path, label: bool, lacking: str) -> None:
    found = read(tmp_path, {**ROW, "label": label}, {**ROW, "completion": " ", "label": not label})
    with pytest.raises(DataError, match=rf"add rows that are {lacking} \(label: {str(not label).lower()}\).*empty completion"):
        found.require_both_sides()
    read(tmp_path, ROW, {**ROW, "label": False}).require_both_sides()


def test_an_example_is_trls_conversational_unpaired_form(tmp_path: Path) -> None:
    assert list(kto_examples(read(tmp_path, ROW).replies)) == [{"prompt": [USER], "completion": [ASSISTANT], "label": True}]


# ---------------------------------------------------------------------------------------------------------------- sandbox
Asked = dict[str, tuple[Request, list[str], frozenset[str]]]  # the system prompt -> request, candidates, allowed risks


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the sandbox makes rows of, by a system prompt that names it."""
    found: Asked = {}
    pools: list[tuple[Request, list[str]]] = []
    make = unpaired.candidates

    def candidates(request: Request, rng: random.Random) -> Any:
        pool = make(request, rng)
        pools.append((request, [text for text, _ in pool]))
        return pool

    def render(allowed: frozenset[str], *_: Any) -> str:
        name = f"config {len(found)}"
        found[name] = (*pools[-1], allowed)
        return name

    monkeypatch.setattr(unpaired, "candidates", candidates)
    monkeypatch.setattr(unpaired, "render_safety_config", render)
    return found


def error(request: Request, text: str, allowed: frozenset[str]) -> float:
    """The paper's error score, spelled out: 0.1 for an allowed risk, 3 for another, 1 where the request is not addressed."""
    judgement, trained_on = judge(request, text), set(SANDBOX_TAXONOMY.trained_on)
    risks = {risk if risk in trained_on else OTHER_HARMS for risk in judgement.risks}
    return sum(0.1 if risk in allowed else 3.0 for risk in risks) + (0.0 if judgement.addressed else 1.0)


def expected(request: Request, texts: Sequence[str], allowed: frozenset[str]) -> dict[str, bool]:
    """Text -> label, each text compared with every other."""
    errors = {text: error(request, text, allowed) for text in texts}
    return {text: own < 3 and not any(other < own - 1e-9 for other in errors.values()) for text, own in errors.items()}


def by_system(rows: list[dict[str, Any]]) -> dict[str, list[tuple[str, bool]]]:
    found: dict[str, list[tuple[str, bool]]] = {}
    for row in rows:
        found.setdefault(row["prompt"][0]["content"], []).append((row["completion"], row["label"]))
    return found


def test_the_sandbox_labels_by_the_error_score(asked: Asked) -> None:
    rows = by_system(unpaired.unpaired_rows(150, None, seed=3))
    assert set(rows) == set(asked) and len(rows) > 300
    for name, labelled in rows.items():
        assert Counter(labelled) == Counter(expected(*asked[name]).items()), asked[name]  # and so no text twice
    undecided = [name for name, labelled in rows.items() if len({label for _, label in labelled}) == 1]
    assert 0 < len(undecided) < len(rows) / 2  # configs under which all candidates are alike


def test_it_draws_at_most_per_config_of_each_label(asked: Asked) -> None:
    for name, labelled in by_system(unpaired.unpaired_rows(60, 2, seed=3)).items():
        labels = expected(*asked[name])
        assert all(labels[text] == label for text, label in labelled)
        sizes, there = Counter(label for _, label in labelled), Counter(labels.values())
        assert all(sizes[label] == min(2, there[label]) for label in (True, False))


def test_a_seed_makes_the_same_replies_again_and_another_makes_others() -> None:
    first, again, other = (unpaired.unpaired_rows(20, 1, seed) for seed in (0, 0, 1))
    assert first == again != other
