"""What the page carries, as text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.compare.fabricated import comparison
from trainer.compare.html import write_html
from trainer.compare.page_data import overview, responses


class _Elements(HTMLParser):
    """Every element's attributes, and what stands in the scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and data.strip():
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def test_the_page_asks_for_nothing_and_allows_its_own_scripts_alone(tmp_path: Path) -> None:
    write_html(comparison(), tmp_path / "report.html")
    page = _Elements((tmp_path / "report.html").read_text())
    assert not [(tag, found) for tag, found in page.elements if {"src", "href", "action"} & found.keys()]
    policy = next(found["content"] for _, found in page.elements if found.get("http-equiv") == "Content-Security-Policy")
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert policy is not None and len(code) == 5
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in code]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src {' '.join(hashes)}"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_value(bad: float, tmp_path: Path) -> None:
    given = comparison(settings=1)
    curve = replace(given.curves[0], values=[bad, *given.curves[0].values[1:]])
    cells = [replace(cell, value=bad, low=bad, high=bad) for cell in given.cells]
    contrasts = [replace(contrast, difference=bad, p=bad, p_holm=bad) for contrast in given.contrasts]
    broken = replace(given, cells=cells, contrasts=contrasts, curves=[curve, *given.curves[1:]])
    write_html(broken, tmp_path / "report.html")
    page = _Elements((tmp_path / "report.html").read_text())
    carried = {found["id"]: json.loads(text, parse_constant=_refuse) for found, text in page.scripts if "id" in found}
    assert carried["overview"]["values"][0][0]["of"][:3] == [None, None, None]
    assert carried["overview"]["curves"][0]["values"][:2] == [None, pytest.approx(curve.values[1], rel=1e-4)]


@pytest.mark.parametrize("situation", ["", "safe", "allowed", "partial", "disallowed"])
@pytest.mark.parametrize("suite", ["attack", "cosa", "a suite of tomorrow", "over_refusal", "capability", "task"])
def test_prompts_that_may_ask_for_harm_are_folded(suite: str, situation: str) -> None:
    given = comparison(settings=1)
    prompts = [replace(prompt, suite=suite, situation=situation) for prompt in given.prompts]
    assert {item["folded"] for item in responses(replace(given, prompts=prompts))["items"]} == {
        suite not in ("over_refusal", "capability", "task") and situation != "safe"
    }


@pytest.mark.parametrize(("outcome", "folded"), [("unsafe", True), ("invalid", True), ("new", True), ("right", False)])
def test_a_response_is_folded_by_its_outcome_too(outcome: str, folded: bool) -> None:
    given = comparison(settings=1)
    packed = responses(replace(given, responses=[replace(one, outcome=outcome) for one in given.responses]))
    assert [(verdict["name"], verdict["folded"]) for verdict in packed["verdicts"]] == [(outcome, folded)]


def test_the_columns_of_responses_are_the_responses() -> None:
    given = comparison(settings=3, seeds=2)
    packed: dict[str, Any] = responses(given)
    for index, one in enumerate(given.responses):
        name = packed["models"][packed["model"][index]]
        assert name == (one.row if one.row == "base" else f"{one.row} · {one.run}")
        assert packed["items"][packed["item"][index]]["id"] == given.prompts[one.prompt].id
        assert packed["text"][index] == one.response
        assert packed["verdicts"][packed["verdict"][index]]["name"] == one.outcome
        assert packed["risks"][packed["risk"][index]] == tuple(one.risks or ())
        assert {packed["judges"][judge]: reply for judge, reply in packed["replies"][index]} == one.replies


def test_what_all_runs_of_a_row_answered_is_there_once() -> None:
    given = comparison(settings=2, seeds=2)
    base = [one for one in given.responses if one.row == "base"]
    other = given.runs[1].key
    again = replace(given, responses=[*given.responses, *(replace(one, run=other) for one in base)])
    assert responses(again) == responses(given)
    first = replace(base[0], run=other, response="something else")
    differ = replace(given, responses=[*given.responses, first, *(replace(one, run=other) for one in base[1:])])
    packed = responses(differ)
    assert len(packed["text"]) == len(given.responses) + len(base)
    assert {f"base · {given.runs[0].key}", f"base · {other}"} <= set(packed["models"]) and "base" not in packed["models"]


def test_what_was_not_measured_and_left_out_is_noted() -> None:
    given = comparison(settings=2)
    cells = [replace(cell, missing=["set one"]) if cell.metric == "safety/asr" else cell for cell in given.cells]
    found = overview(replace(given, cells=cells, left_out={"runs/torn": "its results are damaged"}))
    names = ", ".join(row.key for row in given.rows)
    assert found["notes"] == [
        "left out: runs/torn: its results are damaged", f"{names}: no judgement of set one was understood",
    ]  # fmt: skip
