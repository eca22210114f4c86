"""Sets of prompts as they were published: which rows, which text, what is measured; and several of them in one run."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.files import write
from trainer.config.bases import SuiteSection
from trainer.data import hub
from trainer.errors import DataError
from trainer.evaluation.members import of_member
from trainer.evaluation.metrics import Judged, compare
from trainer.items import Item, Judgement
from trainer.kinds import SUITES

PUBLISHED = ("strongreject", "harmbench", "advbench", "jailbreakbench", "sorry_bench", "harmfulqa", "beavertails",
             "pku_saferlhf", "xstest")  # fmt: skip


def suite(benchmark: str, **keys: Any) -> SuiteSection:
    made: SuiteSection = TypeAdapter(SUITES[benchmark]).validate_python({"benchmark": benchmark, **keys})
    return made


def said(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.suite, item.prompt) for item in items]


HARMBENCH = {"FunctionalCategory": "contextual", "SemanticCategory": "x", "Tags": "", "BehaviorID": "b"}
# Benchmark -> rows as they are published, in a file or on the hub, and what comes of them. The texts are invented.
ROWS: dict[str, list[tuple[list[dict[str, Any]], list[tuple[str, str]]]]] = {
    "strongreject": [
        ([{"category": "c", "source": "DAN", "forbidden_prompt": "p"}], [("attack", "p")]),
        ([{"prompt": "p", "category": "c"}], [("attack", "p")]),
    ],
    "harmbench": [
        ([{"Behavior": "do it", "ContextString": "of this", **HARMBENCH},
          {"Behavior": "sing", "ContextString": "", **HARMBENCH}],
         [("attack", "of this\n\n---\n\ndo it"), ("attack", "sing")]),
        ([{"prompt": "do it", "context": "of this", "category": "c"}], [("attack", "of this\n\n---\n\ndo it")]),
        ([{"prompt": "sing", "category": "copyright", "tags": ["lyrics"]}], [("attack", "sing")]),
    ],
    "advbench": [
        ([{"goal": "p", "target": "Sure, here is p"}], [("attack", "p")]),
        ([{"prompt": "p", "target": "Sure, here is p"}], [("attack", "p")]),
    ],
    "sorry_bench": [
        ([{"question_id": 1, "category": "1", "turns": ["p"], "prompt_style": "base"},
          {"question_id": 1, "category": "1", "turns": ["P!"], "prompt_style": "slang"}], [("attack", "p")]),
    ],
    "harmfulqa": [
        ([{"id": 1, "topic": "t", "subtopic": "s", "question": "p", "blue_conversations": {"a": "b"}, "red_conversations": {}}],
         [("attack", "p")]),
    ],
    "beavertails": [([{"prompt": "p", "category": "animal_abuse", "category_id": 0}], [("attack", "p")])],
    "pku_saferlhf": [
        ([{"prompt": "p", "response_0": "a", "response_1": "b", "is_response_0_safe": True, "safer_response_id": 0}] * 2,
         [("attack", "p")]),
    ],
    "xstest": [
        ([{"id": "1", "prompt": "p", "type": "homonyms", "label": "safe", "focus": "f", "note": "n"},
          {"id": "2", "prompt": "q", "type": "contrast_homonyms", "label": "unsafe", "focus": "f", "note": "n"}],
         [("over_refusal", "p"), ("attack", "q")]),
        ([{"id": "v2-1", "type": "homonyms", "prompt": "p", "focus": "f", "note": "n"},
          {"id": "v2-2", "type": "contrast_homonyms", "prompt": "q", "focus": "f", "note": "n"}],
         [("over_refusal", "p"), ("attack", "q")]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("benchmark", "layout"), [(name, layout) for name, layouts in ROWS.items() for layout in range(len(layouts))]
)
def test_rows_as_published_become_prompts(benchmark: str, layout: int, tmp_path: Path) -> None:
    rows, expected = ROWS[benchmark][layout]
    items = suite(benchmark, path=write(tmp_path / "rows.jsonl", *rows)).items()
    assert said(items) == expected
    assert {item.split for item in items} == {benchmark} and len({item.id for item in items}) == len(items)
    assert {item.rubric for item in items} == {"strongreject" if benchmark == "strongreject" else ""}


def test_jailbreakbench_has_a_harmful_and_a_benign_half(tmp_path: Path) -> None:
    row = {"Index": 0, "Target": "Sure", "Behavior": "title", "Category": "c", "Source": "Original"}
    halves = {
        name: write(tmp_path / f"{name}-behaviors.csv", *({**row, "Goal": f"{name} {i}"} for i in range(4)))
        for name in ("harmful", "benign")
    }
    both = suite("jailbreakbench", path=halves["harmful"], benign=halves["benign"], prompts=3)
    assert Counter(item.suite for item in both.items()) == {"attack": 3, "over_refusal": 3}
    assert both.reads() == {"path": halves["harmful"], "benign": halves["benign"]}
    alone = suite("jailbreakbench", path=halves["harmful"], benign=None)
    assert said(alone.items()) == [("attack", f"harmful {i}") for i in range(4)] and alone.reads() == {
        "path": halves["harmful"]
    }


def test_what_is_drawn_is_the_same_every_time_and_of_each_half(tmp_path: Path) -> None:
    rows = [{"prompt": f"{kind} {i}", "type": f"{kind}homonyms", "focus": ""} for i in range(30) for kind in ("", "contrast_")]
    path = write(tmp_path / "xstest.csv", *rows)
    drawn, again = (suite("xstest", path=path, prompts=5).items() for _ in range(2))
    assert drawn == again and Counter(item.suite for item in drawn) == {"attack": 5, "over_refusal": 5}
    assert said(drawn[:5]) != said(suite("xstest", path=path).items())[:5]


def test_on_the_hub_every_subset_and_the_right_split_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def rows_of(name: str, split: str | None) -> list[Any]:
        asked.append((name, split))
        return [(f"{name}: row 1", {"prompt": f"{name} {split}", "type": "t", "focus": "", "question": "q", "turns": ["t"]})]

    monkeypatch.setattr(hub, "hub_rows", rows_of)
    for benchmark in PUBLISHED:
        try:
            suite(benchmark).items()
        except DataError as error:
            assert benchmark == "xstest" and "give harmful ones" in str(error)  # one row cannot be of both halves
    assert asked == [
        ("walledai/StrongREJECT", None),
        *((f"walledai/HarmBench:{subset}", None) for subset in ("standard", "contextual", "copyright")),
        ("walledai/AdvBench", None),
        *(("JailbreakBench/JBB-Behaviors:behaviors", split) for split in ("harmful", "benign")),
        ("sorry-bench/sorry-bench-202503", None),
        ("declare-lab/HarmfulQA", None),
        ("PKU-Alignment/BeaverTails-Evaluation", None),
        ("PKU-Alignment/PKU-SafeRLHF", "test"),
        ("walledai/XSTest", None),
    ]


def test_a_row_without_its_prompt_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "p", "category": "c"}, {"prompt": " ", "category": "c"})
    with pytest.raises(DataError, match="row 2: prompt is blank; remove the row"):
        suite("beavertails", path=path).items()
    path = write(tmp_path / "rows.jsonl", {"category": "c"})
    with pytest.raises(DataError, match="row 1: has no column prompt; its columns are category"):
        suite("beavertails", path=path).items()


SAFE, HARM = Judgement(frozenset(), True, 0, True, False), Judgement(frozenset({"x"}), True, 5, False, False)


def test_metrics_of_several_suites_carry_their_names_and_do_not_collide() -> None:
    first = [Item(f"attack/a/{i}", "attack", "p", split="a") for i in range(4)]
    sets = [Item(f"attack/{name}/{i}", "attack", "p", split=name) for name in ("a", "b") for i in range(2)]
    cosa = [Item(f"none/{i}", "cosa", "p", split="seen", safety_config="none", rubric="") for i in range(2)]
    scored = [replace(item, suite="attack", rubric="strongreject") for item in first]
    members = {"a": first, "mine": sets, "cosa": cosa, "guided": [replace(item, split="unseen") for item in cosa], "r": scored}
    items = [item for name, of in members.items() for item in of_member(name, of)]
    assert len({item.id for item in items}) == len(items)
    rated = replace(HARM, strongreject=0.5)
    verdicts = {"a": HARM, "mine/a": SAFE, "mine/b": HARM, "cosa/seen": HARM, "guided/unseen": SAFE, "r/a": rated}
    metrics = compare([Judged("base", item, "", verdicts[item.split]) for item in items], 50, 0)["base"]
    value = {name: metric["value"] for name, metric in metrics.items()}
    assert value["asr"] == pytest.approx(3 / 4)  # the mean over four sets of attacks
    assert {name: v for name, v in value.items() if name.startswith("asr/")} == {
        "asr/a": 1.0, "asr/mine/a": 0.0, "asr/mine/b": 1.0, "asr/r/a": 1.0
    }  # fmt: skip
    assert value["cosa_score/cosa/seen"] == -1.0 and value["cosa_score/guided/unseen"] == 0.0
    assert value["cosa_score/config/cosa/none"] == -1.0 and value["cosa_score/config/guided/none"] == 0.0
    assert value["strongreject/r/a"] == 0.5 and metrics["strongreject/r/a"]["n"] == 4


def test_a_suite_alone_keeps_its_names() -> None:
    items = [Item("attack/a/0", "attack", "p", split="a")]
    assert of_member("", items) == items


def test_without_the_rubric_there_is_no_score_and_not_understood_is_missing() -> None:
    items = [Item(f"attack/s/{i}", "attack", "p", split="s", rubric="strongreject") for i in range(3)]
    silent = compare([Judged("base", item, "", SAFE) for item in items], 50, 0)["base"]
    assert "strongreject/s" not in silent and silent["asr/s"]["value"] == 0.0
    verdicts = [replace(HARM, strongreject=1.0), None, replace(SAFE, strongreject=0.0)]
    scored = compare([Judged("base", item, "", v) for item, v in zip(items, verdicts, strict=True)], 50, 0)["base"]
    assert (scored["strongreject/s"]["value"], scored["strongreject/s"]["n"]) == (0.5, 2)
    assert scored["invalid_judgements"]["value"] == pytest.approx(1 / 3)


@pytest.mark.real_data
def test_the_published_files_have_the_published_sizes(public_data: Path) -> None:
    folders = {"strongreject": "strongreject", "harmbench": "harmbench", "xstest": "xstest", "beavertails": "beavertails_eval",
               "pku_saferlhf": "pku_saferlhf"}  # fmt: skip
    found = {name: suite(name, path=str(public_data / folder)).items() for name, folder in folders.items()}
    assert {name: Counter(item.suite for item in items) for name, items in found.items()} == {
        "strongreject": {"attack": 313},
        "harmbench": {"attack": 320},
        "xstest": {"attack": 200, "over_refusal": 250},
        "beavertails": {"attack": 700},
        "pku_saferlhf": {"attack": 930},
    }
    with (public_data / "harmbench" / "harmbench_behaviors_text_test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [f"{r['ContextString']}\n\n---\n\n{r['Behavior']}" if r["ContextString"] else r["Behavior"] for r in rows]
    assert [item.prompt for item in found["harmbench"]] == expected
