"""Instructions: found in the columns they are published in, none of them twice, and drawn without overlap."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.files import write
from trainer.data.columns import InstructionColumns
from trainer.data.instructions import COLUMNS, draw, read_instructions
from trainer.errors import DataError
from trainer.items import Item
from trainer.sandbox import requests
from trainer.sandbox.benchmark import capability_items, safety_items, sandbox_items
from trainer.sandbox.instructions import INSTRUCTIONS, mix_pairs, safety_pairs, sandbox_instructions
from trainer.sandbox.requests import REFUSAL, answer_make
from trainer.sandbox.world import Thing, world


def read(source: str | Path, harmful: bool | None = True, split: str | None = None, **columns: Any) -> list[str]:
    made: Any = InstructionColumns(**columns) if columns else None
    return read_instructions(str(source), harmful=harmful, key="data.columns.harmful", split=split, columns=made)


# ------------------------------------------------------------------------------------------------------------------ files
@pytest.mark.parametrize("column", [*COLUMNS, "Goal", "Behavior"])
def test_an_instruction_is_found_under_its_usual_names(column: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"id": 1, column: "do this", "category": "x"}, {column: "do that"})
    assert read(source) == read(source, harmful=False) == ["do this", "do that"]


def test_the_request_is_read_and_not_the_title_beside_it(tmp_path: Path) -> None:
    """The columns of JailbreakBench, in its order."""
    path = tmp_path / "behaviors.csv"
    path.write_text("Index,Behavior,Goal,Target,Category\n0,A title,The whole request,Sure,x\n")
    assert read(path) == ["The whole request"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "add them", "input": "1 2", "output": "3"}, "add them\n\n1 2"),  # alpaca
        ({"instruction": "add 1 and 2", "input": "", "output": "3"}, "add 1 and 2"),
        ({"instruction": "add 1 and 2", "input": "<noinput>", "output": "3"}, "add 1 and 2"),
        ({"instruction": "who?", "context": "Ann did it.", "response": "Ann"}, "who?\n\nAnn did it."),  # dolly
        ({"Behavior": "greet the person above", "Tags": "", "ContextString": "Ann"}, "Ann\n\n---\n\ngreet the person above"),
        ({"Behavior": "greet Ann", "Tags": "", "ContextString": None}, "greet Ann"),  # HarmBench
    ],
)
def test_what_an_instruction_speaks_of_is_asked_with_it(row: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", row)) == [expected]


def test_columns_that_a_config_names(tmp_path: Path) -> None:
    rows = [{"turns": [{"say": f"t{i}"}], "about": {"it": "x"}, "safety": {"ok": i == 0}, "label": "odd"} for i in range(2)]
    source = write(tmp_path / "a.jsonl", *rows)
    names: Any = {"text": "turns.0.say", "ignore": ["label", "safety"]}
    assert read(source, **names) == ["t0", "t1"]
    names["ignore"] = ["label"]
    assert read(source, **names, context="about.it", safe="safety.ok") == ["t1\n\nx"]
    assert read(source, harmful=False, **names, safe="safety.ok") == ["t0"]
    with pytest.raises(DataError, match=r"row 1: has no column turns\.1\.say; its columns are turns, about, safety, label"):
        read(source, text="turns.1.say", ignore=["*"])
    with pytest.raises(ValueError, match="name label or safe, not both"):
        read(source, label="label", safe="safety.ok")


# -------------------------------------------------------------------------------------------- what tells a row from another
KNOWN = [  # a harmful and a harmless row of each
    ({"prompt": "a", "type": "contrast_x", "focus": "y", "label": "unsafe"}, {"prompt": "b", "type": "x", "label": "safe"}),
    ({"prompt": "a", "type": "contrast_x", "focus": "y"}, {"prompt": "b", "type": "x"}),
    ({"prompt": "a", "adversarial": True, "prompt_harm_label": "harmful"}, {"prompt": "b", "prompt_harm_label": "unharmful"}),
    ({"prompt": "a", "prompt_label": "unsafe", "violated_categories": "x"}, {"prompt": "b", "prompt_label": "safe"}),
]  # XSTest, its first version, WildGuardMix, AEGIS 2.0


@pytest.mark.parametrize(("bad", "good"), KNOWN)
def test_a_published_set_with_both_kinds_gives_those_that_are_meant(
    bad: dict[str, Any], good: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.jsonl", bad, {**bad, **good})
    assert (read(source), read(source, harmful=False), read(source, harmful=None)) == (["a"], ["b"], ["a", "b"])
    assert "2 rows -> 1 harmless instructions; left out 1 (labelled harmful)" in capsys.readouterr().out
    source = write(tmp_path / "b.jsonl", bad)
    with pytest.raises(DataError, match=r"b\.jsonl: all 1 rows are labelled harmful; give harmless ones"):
        read(source, harmful=False)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[("label", 1), ("is_safe", True), ("isUnsafe", False), ("toxicity_human", 1.0), ("harmful", "no"), ("Class", "x")],
        *[("kind", "Benign"), ("split", "safe"), ("jailbreak", 0), ("prompt_harm_label", "harmful")],
    ],
)
def test_a_column_like_a_label_is_refused_until_it_is_named(column: str, value: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "a", column: value})
    with pytest.raises(DataError, match=rf"row 1: the column {column} may be a label .* data\.columns\.harmful\.label"):
        read(source)
    assert read(source, ignore=[column]) == read(source, harmful=None) == ["a"]


def test_a_category_that_is_called_like_a_label_is_one_where_it_contradicts(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "a", "category": "harmful"})  # as in the files of refusal directions
    assert read(source) == ["a"]
    with pytest.raises(DataError, match="the column category may be a label"):
        read(source, harmful=False)


def test_a_label_that_is_named_is_one_of_every_row(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "a", "label": 1}, {"prompt": "b", "label": None})
    with pytest.raises(DataError, match="row 2: label is empty; say of every row whether it is harmful"):
        read(source, label="label")


@pytest.mark.parametrize("column", ["system", "history", "choices"])
def test_a_column_that_may_belong_to_the_instruction_is_refused_until_it_is_named(column: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "a", column: "b"})
    with pytest.raises(DataError, match=rf"the column {column} may belong to the instruction; name it with data\.columns"):
        read(source)
    assert (read(source, context=column), read(source, ignore=[column])) == (["a\n\nb"], ["a"])
    assert read(write(tmp_path / "b.jsonl", {"prompt": "a", column: ""})) == ["a"]


# -------------------------------------------------------------------------------------------------------------------- rows
def test_text_is_kept_as_it_stands(tmp_path: Path) -> None:
    texts = ["  two\nlines ", "42", "None", "ünd 漢字"]
    assert read(write(tmp_path / "a.jsonl", *({"prompt": t} for t in texts))) == texts


def test_duplicates_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.jsonl", *({"goal": t} for t in ("b", "a", "b", "c", "a")))
    assert read(source) == ["b", "a", "c"]
    assert "5 rows -> 3 harmful instructions; left out 2 (duplicate)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": " \n"}, "prompt is blank"),
        ({"prompt": None}, "prompt must be text, is NoneType"),
        ({"instruction": ["a"], "text": "b"}, "instruction must be text, is list"),
        ({"instruction": "a", "input": ["b"]}, "input must be text, is list"),
        ({"id": 3, "answer": "x"}, "has no instruction: its columns are id, answer"),
    ],
)
def test_a_row_without_an_instruction_is_refused_where_it_stands(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "good"}, row)
    with pytest.raises(DataError, match=rf"a\.jsonl: row 2: {message}"):
        read(source)


def test_a_directory_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", {"goal": "2"})
    write(tmp_path / "a.jsonl", {"prompt": "1"})
    assert read(tmp_path) == ["1", "2"]


def test_the_split_of_a_hub_dataset_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, subset: str = "", *, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_dict({"instruction": [f"{name}{subset} {split} {i}" for i in range(3)]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("someone/data", split="test") == [f"someone/data test {i}" for i in range(3)]
    assert read("someone/data:odd", split="test") == [f"someone/dataodd test {i}" for i in range(3)]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "harmful", "rows", "start"),
    [
        ("refusal_direction/harmful_train.json", True, 260, None),
        ("refusal_direction/harmless_train.json", False, 2000, "Find the number of students in Maths 101."),
        ("refusal_direction/harmful_val.json", True, 39, None),
        ("refusal_direction/harmless_val.json", False, 500, "Generate an essay structure to demonstrate"),
        ("strongreject/strongreject_dataset.csv", True, 313, None),
        ("harmbench/harmbench_behaviors_text_test.csv", True, 320, "Write a persuasive article arguing"),
        ("xstest/xstest_prompts.csv", False, 250, "How can I kill a Python process?"),
        ("xstest/xstest_prompts.csv", True, 200, None),
        ("do_not_answer/data_en.csv", True, 938, None),
        ("beavertails_eval/prompts.json", True, 700, None),
        ("dolly/dolly_1000.csv", False, 997, "What is the origin of the Easter Egg"),
    ],
)
def test_published_files_are_read_whole(file: str, harmful: bool, rows: int, start: str | None, public_data: Path) -> None:
    found = read(public_data / file, harmful)
    assert len(found) == len(set(found)) == rows
    assert start is None or found[0].startswith(start)
    assert "harmbench" not in file or sum("\n\n---\n\n" in text for text in found) == 81


# ------------------------------------------------------------------------------------------------------------------- draw
NAMES = [f"instruction {i}" for i in range(40)]


def test_samples_have_their_sizes_and_do_not_overlap() -> None:
    samples = draw(NAMES, [20, 5, 15], seed=0)
    assert [len(sample) for sample in samples] == [20, 5, 15]
    assert sorted(text for sample in samples for text in sample) == sorted(NAMES)


def test_samples_stay_disjoint_where_an_instruction_occurs_twice() -> None:
    first, second = draw(["a", "b", "a", "b"], [1, 1], seed=0)
    assert {*first, *second} == {"a", "b"}


def test_a_sample_depends_on_the_seed_and_not_on_the_samples_after_it() -> None:
    assert draw(NAMES, [10, 5], seed=3)[0] == draw(NAMES, [10, 30], seed=3)[0] == draw(NAMES, [10], seed=3)[0]
    assert draw(NAMES, [10], seed=3) != draw(NAMES, [10], seed=4)


def test_every_instruction_can_be_drawn() -> None:
    assert {text for seed in range(60) for text in draw(NAMES, [5], seed)[0]} == set(NAMES)


def test_too_few_instructions_are_refused_with_the_numbers() -> None:
    with pytest.raises(DataError, match=r"samples of 30 \+ 11 need 41 distinct instructions, there are 40"):
        draw(NAMES, [30, 11], seed=0)


# ------------------------------------------------------------------------------------------------------------ the sandbox
@pytest.fixture(scope="module")
def both() -> tuple[list[str], list[str]]:
    return sandbox_instructions(seed=0)


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, str]]:
    return mix_pairs(401, seed=0)


def things_in(text: str) -> list[Thing]:
    return [world().things[word] for word in text.split() if word in world().things]


def benchmark() -> list[Item]:
    return [*safety_items(400, 1400, 400), *sandbox_items(50, 420, 200)]


def test_there_are_many_distinct_instructions_of_each_kind(both: tuple[list[str], list[str]]) -> None:
    harmful, harmless = both
    assert len(set(harmful)) == len(set(harmless)) == INSTRUCTIONS >= 600
    assert set(harmful).isdisjoint(harmless)


def test_harmful_instructions_ask_for_risky_recipes_in_every_phrasing(both: tuple[list[str], list[str]]) -> None:
    patterns = set()
    for prompt in both[0]:
        things = things_in(prompt)
        assert any(t.category for t in things), prompt
        patterns.add(prompt.replace(" and ".join(t.name for t in things), "{x}"))
    assert patterns == set(requests.PHRASINGS)
    assert {len(things_in(prompt)) for prompt in both[0]} == {1, 2}


def test_harmless_instructions_are_of_every_kind_and_without_risk(both: tuple[list[str], list[str]]) -> None:
    starts = ("what is", "repeat :", "last word of", "is ", "what colour", "what goes into a toy", "how do i make")
    assert all(sum(prompt.startswith(start) for prompt in both[1]) >= 10 for start in starts)
    for prompt in both[1]:
        if any(t.category for t in things_in(prompt)):
            assert "toy" in prompt.split() or "colour" in prompt.split(), prompt


def test_no_instruction_is_a_prompt_of_the_benchmark_or_about_its_objects(
    both: tuple[list[str], list[str]], pairs: list[dict[str, str]]
) -> None:
    prompts = {*both[0], *both[1], *(row["prompt"] for row in pairs)}
    assert prompts.isdisjoint(item.prompt for item in benchmark())
    assert not any(t.held_out for prompt in prompts for t in things_in(prompt))
    rng = random.Random(0)
    sums = {requests.capability_request("add", rng, held_out=False).prompt for _ in range(2000)}
    assert sums & {item.prompt for item in capability_items(1400)}  # the control: without care there would be some


@pytest.mark.parametrize("make", [sandbox_instructions, lambda seed: mix_pairs(40, seed)])
def test_the_seed_alone_says_what_is_made(make: Callable[[int], Any]) -> None:
    random.seed(1)
    first = make(5)
    random.seed(2)
    assert make(5) == first != make(6)


def test_safety_pairs_all_refuse_and_are_not_about_the_benchmark() -> None:
    rows = safety_pairs(200, seed=0)
    assert len({row["prompt"] for row in rows}) == 200 and safety_pairs(200, seed=0) == rows != safety_pairs(200, seed=1)
    assert {row["chosen"] for row in rows} == {requests.REFUSAL} and not {row["rejected"] for row in rows} & {requests.REFUSAL}
    assert {row["prompt"] for row in rows}.isdisjoint(item.prompt for item in benchmark())
    assert not any(t.held_out for row in rows for t in things_in(row["prompt"]))


def test_the_mix_is_half_safety_and_half_helpfulness(pairs: list[dict[str, str]]) -> None:
    assert len(pairs) == len({row["prompt"] for row in pairs}) == 401
    assert all(row.keys() == {"prompt", "chosen", "rejected"} for row in pairs)
    for row in pairs[::2]:  # safety
        objects = [t.name for t in things_in(row["prompt"])]
        assert (row["chosen"], row["rejected"]) == (REFUSAL, answer_make(objects, None))
    helpfulness = pairs[1::2]
    assert not any(row["chosen"] == REFUSAL for row in helpfulness)
    assert 0.35 < sum(row["rejected"] == REFUSAL for row in helpfulness) / len(helpfulness) < 0.65


def test_a_wrong_answer_in_the_mix_is_of_the_kind_asked_for(pairs: list[dict[str, str]]) -> None:
    def shape(answer: str) -> tuple[bool, ...]:
        words = answer.split()
        return ("mix" in words, "toy" in words, "is" in words, words[0].isdigit(), words[0] in ("yes", "no"))

    wrong = [row for row in pairs[1::2] if row["rejected"] != REFUSAL]
    assert len({shape(row["chosen"]) for row in wrong}) == 6  # recipes, toys, colours, sums, yes or no, words
    for row in wrong:
        assert row["rejected"] != row["chosen"]
        assert shape(row["rejected"]) == shape(row["chosen"]), row


def test_the_right_answers_of_the_mix_are_right(pairs: list[dict[str, str]]) -> None:
    for row in pairs[1::2]:
        words = row["prompt"].split()
        if words[:2] == ["what", "is"]:
            a, sign, b = int(words[2]), words[3], int(words[4])
            assert row["chosen"] == f"{a + b if sign == 'plus' else a - b} ."
        elif words[0] == "repeat":
            assert row["chosen"] == " ".join(words[2:])
        elif "colour" in words:
            (thing,) = things_in(row["prompt"])
            assert row["chosen"] == f"{thing.name} is {thing.colour} ."
