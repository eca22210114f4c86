"""Labelled text: read in the forms it is published in, with 1 always for what is to be flagged, and split without leaks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.files import write
from trainer.data.formats.aegis import from_aegis
from trainer.data.formats.beavertails import from_beavertails
from trainer.data.formats.do_not_answer import DoNotAnswerData, from_do_not_answer
from trainer.data.formats.labelled import LABELS, PROMPTS, RESPONSES, from_labelled
from trainer.data.formats.summedits import from_summedits
from trainer.data.formats.toxigen import from_toxigen
from trainer.data.labelled import Labelled, read_labelled, split
from trainer.errors import DataError
from trainer.kinds import FORMATS

PARSERS = {
    "toxigen": from_toxigen,
    "aegis": from_aegis,
    "beavertails": from_beavertails,
    "summedits": from_summedits,
    "do_not_answer": from_do_not_answer,
    "labelled": from_labelled,
}


SUFFIXES = ("a.jsonl", "a.csv")  # csv knows no null, no number and no truth value


# --------------------------------------------------------------------------------------------------------------- toxigen
@pytest.mark.parametrize("name", SUFFIXES)
def test_toxigen_text_is_toxic_from_a_mean_of_four(name: str, tmp_path: Path) -> None:
    scores = (1.0, 3.666666667, 4.0, 5.0)
    source = write(tmp_path / name, *({"text": f"t{s}", "target_group": "x", "toxicity_human": s} for s in scores))
    rows = read_labelled(source, PARSERS["toxigen"])
    assert [row.prompt_label for row in rows] == [0, 0, 1, 1]
    assert rows[0] == Labelled("t1.0", None, 0, None)


@pytest.mark.parametrize("name", SUFFIXES)
def test_machine_written_toxigen_is_the_generation_with_the_label_of_its_prompt(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [("one", 1), ("two", 0), ("", 1)]
    row = {"prompt": "- a\\n- b\\n-", "generation_method": "topk", "group": "x", "roberta_prediction": 0.9}
    source = write(tmp_path / name, *({**row, "generation": text, "prompt_label": label} for text, label in made))
    assert read_labelled(source, PARSERS["toxigen"]) == [Labelled("one", None, 1), Labelled("two", None, 0)]
    assert "3 rows -> 2 labelled; left out 1 (no text)" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------------- aegis
AEGIS = {"id": "1", "reconstruction_id_if_redacted": None, "violated_categories": "", "prompt_label_source": "human"}


@pytest.mark.parametrize("name", SUFFIXES)
def test_aegis_labels_prompts_and_responses(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = [
        ("may i bake", "yes", "safe", "safe"),
        ("how to break it", "so", "unsafe", "unsafe"),
        ("how to bend it", "no", "unsafe", "safe"),
        ("only asked", None, "unsafe", None),
        ("only asked too", "", "safe", ""),
        ("reply hidden", "REDACTED", "unsafe", "unsafe"),
        ("REDACTED", "so", "unsafe", "unsafe"),
    ]
    columns = ("prompt", "response", "prompt_label", "response_label")
    source = write(tmp_path / name, *({**AEGIS, **dict(zip(columns, row, strict=True))} for row in published))
    assert read_labelled(source, PARSERS["aegis"]) == [
        Labelled("may i bake", "yes", 0, 0),
        Labelled("how to break it", "so", 1, 1),
        Labelled("how to bend it", "no", 1, 0),
        Labelled("only asked", None, 1, None),
        Labelled("only asked too", None, 0, None),
        Labelled("reply hidden", None, 1, None),
    ]
    assert "7 rows -> 6 labelled; left out 1 (redacted)" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------- beavertails
@pytest.mark.parametrize("name", SUFFIXES)
def test_beavertails_labels_the_response_and_not_the_prompt(name: str, tmp_path: Path) -> None:
    row = {"prompt": "how to bend it", "category": "{}"}
    source = write(
        tmp_path / name,
        {**row, "response": "like this", "is_safe": False},
        {**row, "response": "do not", "is_safe": True},
        {**row, "response": "like this", "is_safe": True},  # another annotator
        {**row, "response": "like this", "is_safe": False},  # and a third
    )
    assert read_labelled(source, PARSERS["beavertails"]) == [
        Labelled("how to bend it", "like this", None, 1),
        Labelled("how to bend it", "do not", None, 0),
        Labelled("how to bend it", "like this", None, 0),
    ]


# ------------------------------------------------------------------------------------------------------------- summedits
@pytest.mark.parametrize("name", SUFFIXES)
def test_an_inconsistent_summary_is_what_is_flagged(name: str, tmp_path: Path) -> None:
    source = write(
        tmp_path / name,
        {"doc": "it rained", "summary": "rain", "label": 1},
        {"doc": "it rained", "summary": "snow", "label": 0},
    )
    assert read_labelled(source, PARSERS["summedits"]) == [
        Labelled("it rained", "rain", None, 0),
        Labelled("it rained", "snow", None, 1),
    ]


# -------------------------------------------------------------------------------------------------------------- labelled
@pytest.mark.parametrize("column", [*PROMPTS, "Text"])
@pytest.mark.parametrize("label", [*LABELS, "Label"])
def test_text_and_label_are_found_under_their_usual_names(column: str, label: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"id": 7, column: "a", label: 1}, {"id": 8, column: "b", label: 0})
    assert read_labelled(source, PARSERS["labelled"]) == [Labelled("a", None, 1), Labelled("b", None, 0)]


@pytest.mark.parametrize("column", RESPONSES)
def test_a_single_label_is_about_the_response_where_there_is_one(column: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "p", column: "r", "label": 1}, {"prompt": "p", column: None, "label": 1})
    assert read_labelled(source, PARSERS["labelled"]) == [Labelled("p", "r", None, 1), Labelled("p", None, 1, None)]


def test_both_labels_are_read_where_both_are_there(tmp_path: Path) -> None:
    """The columns and words of WildGuardMix."""
    row = {"prompt": "p", "adversarial": False, "response": "r", "prompt_harm_label": "harmful"}
    source = write(
        tmp_path / "a.jsonl",
        {**row, "response_harm_label": "unharmful"},
        {**row, "response": None, "response_harm_label": None},
    )
    assert read_labelled(source, PARSERS["labelled"]) == [Labelled("p", "r", 1, 0), Labelled("p", None, 1, None)]


@pytest.mark.parametrize(
    ("value", "label"),
    [(1, 1), (0, 0), (True, 1), (False, 0), (1.0, 1), ("1", 1), ("0", 0), ("Unsafe", 1), (" safe ", 0), ("TRUE", 1)],
)
def test_a_label_may_be_a_number_a_truth_value_or_a_word(value: Any, label: int, tmp_path: Path) -> None:
    assert (
        read_labelled(write(tmp_path / "a.jsonl", {"text": "a", "label": value}), PARSERS["labelled"])[0].prompt_label == label
    )
    flipped = read_labelled(write(tmp_path / "b.jsonl", {"text": "a", "is_safe": value}), PARSERS["labelled"])
    says_it = isinstance(value, str) and "safe" in value.lower()  # in such a column too, unsafe is not safe
    assert flipped[0].prompt_label == (label if says_it else 1 - label)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *[([1, 0], 1), ([False, False], 0), ([None, True], 1), ([None], None), ([], 0), ({"a": False, "b": True}, 1)],
        *[({"a": {"b": 0}, "c": None}, 0), ({}, None), (["violence"], 1), (["none"], 0), (["safe", "safe"], 0)],
    ],
)
def test_of_several_labels_one_is_enough(value: Any, label: int | None, tmp_path: Path) -> None:
    other = {"text": "b", "label": 1}
    rows = read_labelled(write(tmp_path / "a.jsonl", {"text": "a", "label": value}, other), PARSERS["labelled"])
    assert [row.prompt_label for row in rows] == ([1] if label is None else [label, 1])


def parse_with(**columns: Any) -> Any:
    cls: Any = FORMATS["labelled"]
    return cls(format="labelled", columns=columns).parse


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"Query": "a", "bad": True}, {"prompt": "Query", "label": "bad"}, Labelled("a", None, 1)),
        (
            {"q": "a", "out": "b", "toxic": 0, "S": 0, "V": 1},  # names that are given go before usual ones
            {"prompt": "q", "response": "out", "label": ["S", "V"]},
            Labelled("a", "b", None, 1),
        ),
        ({"turns": [{"say": "a"}], "x": {"hit": 0}}, {"prompt": "turns.0.say", "label": "x"}, Labelled("a", None, 0)),
        ({"p": {"t": "a", "bad": 0.5}}, {"prompt": "p.t", "label": "p.bad", "threshold": 0.5}, Labelled("a", None, 1)),
        ({"text": "a", "score": "0.7"}, {"safe": "score", "threshold": 0.8}, Labelled("a", None, 1)),
        ({"text": "a", "ok": [True, False]}, {"safe": "ok"}, Labelled("a", None, 1)),
        (
            {"prompt": "a", "response": "b", "ask": "safe", "reply": "unsafe"},
            {"prompt_label": "ask", "response_label": "reply"},
            Labelled("a", "b", 0, 1),
        ),
        ({"text": "a", "label": 1, "mine": 0}, {"label": "mine"}, Labelled("a", None, 0)),
        ({"instruction": "a", "input": "b", "label": 1}, {}, Labelled("a\n\nb", None, 1)),
        ({"text": "a", "page": "b", "label": 1}, {"context": "page"}, Labelled("a\n\nb", None, 1)),
    ],
)  # fmt: skip
def test_columns_that_a_config_names(row: dict[str, Any], columns: dict[str, Any], expected: Labelled, tmp_path: Path) -> None:
    assert read_labelled(write(tmp_path / "a.jsonl", row), parse_with(**columns)) == [expected]


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"text": "a", "label": 1}, {"label": "lable"}, "has no column lable; its columns are text, label"),
        ({"text": "a", "score": "high"}, {"label": "score", "threshold": 0.5}, "score is 'high'; with a threshold it must be"),
        ({"text": "a", "votes": ["safe", "unsafe"]}, {"label": "votes"}, "which does not say one thing; give one label"),
        ({"text": "a", "votes": ["safe", "violence"]}, {"label": "votes"}, "which does not say one thing; give one label"),
    ],
)
def test_a_named_column_that_says_nothing_is_refused(
    row: dict[str, Any], columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"row 1: .*{message}"):
        read_labelled(write(tmp_path / "a.jsonl", row), parse_with(**columns))


def test_a_parquet_file_is_read_like_the_others(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"prompt": ["p", "q"], "response": ["r", None], "is_safe": [False, True]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_labelled(str(tmp_path), PARSERS["labelled"]) == [Labelled("p", "r", None, 1), Labelled("q", None, 0, None)]


# ------------------------------------------------------------------------------------------------------- what is not kept
def test_rows_that_say_nothing_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", 1), ("a", 1), (" \n", 1), ("b", None), ("b", 0), (None, 0)]
    source = write(tmp_path / "a.jsonl", *({"text": text, "label": label} for text, label in rows))
    assert read_labelled(source, PARSERS["labelled"]) == [Labelled("a", None, 1), Labelled("b", None, 0)]
    assert "6 rows -> 2 labelled; left out 1 (duplicate), 2 (no text), 1 (no label)" in capsys.readouterr().out


def test_text_is_kept_as_it_stands(tmp_path: Path) -> None:
    texts = ["  two\nlines ", "42", "None", "ünd 漢字"]
    source = write(tmp_path / "a.jsonl", *({"text": t, "label": 0} for t in texts))
    assert [row.prompt for row in read_labelled(source, PARSERS["labelled"])] == texts


@pytest.mark.parametrize(
    ("format", "row", "message"),
    [
        ("toxigen", {"text": "a"}, "format toxigen needs column toxicity_human; it has text"),
        ("toxigen", {"generation": "a"}, "format toxigen needs column prompt_label"),
        ("toxigen", {"text": "a", "toxicity_human": 0.9}, "toxicity_human is 0.9; it must be a number from 1 to 5"),
        ("toxigen", {"text": "a", "toxicity_human": None}, "toxicity_human is None; it must be a number"),
        ("aegis", {"prompt": "a", "prompt_label": "safe"}, "format aegis needs columns response, response_label"),
        ("aegis", {"prompt": "a", "response": "b", "prompt_label": "saef", "response_label": ""}, "prompt_label is 'saef'; a"),
        ("beavertails", {"prompt": "a", "response": "b", "is_safe": 2}, "is_safe is 2; a label is 0 or 1, true or false, or"),
        ("summedits", {"doc": ["a"], "summary": "b", "label": 1}, "doc must be text, is list"),
        ("labelled", {"title": "a", "label": 1}, "has no text: its columns are title, label. Name the text one of prompt"),
        ("labelled", {"text": "a", "score": 1}, "has no label: its columns are text, score"),
        ("labelled", {"text": 3, "label": 1}, "text must be text, is int"),
        ("labelled", {"text": "a", "label": 0.7}, "label is 0.7; a label is"),
    ],
)  # fmt: skip
def test_a_row_that_the_format_does_not_know_is_refused_where_it_stands(
    format: str, row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.jsonl", row)
    with pytest.raises(DataError, match=rf"a\.jsonl: row 1: {message}"):
        read_labelled(source, PARSERS[format])


def test_a_file_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.jsonl", {**AEGIS, "prompt": "REDACTED", "response": "", "prompt_label": "safe", "response_label": ""}
    )
    with pytest.raises(DataError, match=r"none of the 1 rows is usable: 1 \(redacted\)"):
        read_labelled(source, PARSERS["aegis"])


def test_the_split_of_a_hub_dataset_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        columns = {"prompt": [f"{split} {i}" for i in range(3)], "response": ["r"] * 3, "is_safe": [True, False, True]}
        return datasets.Dataset.from_dict(columns)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = read_labelled("someone/data", PARSERS["beavertails"], split="30k_test")
    assert rows == [Labelled(f"30k_test {i}", "r", None, label) for i, label in enumerate((0, 1, 0))]


# ------------------------------------------------------------------------------------------------------------ public data
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "format", "rows", "flagged"),
    [
        ("toxigen/toxigen_annotated.jsonl", "toxigen", 4526, 599),
        ("summedits/summedits_ectsum.json", "summedits", 668, 426),
        ("summedits/summedits_qmsumm.json", "summedits", 431, 248),
        ("summedits/summedits_samsum.json", "summedits", 664, 422),
        ("summedits/summedits_scitldr.json", "summedits", 452, 309),  # 14 of 466 are there twice
        ("do_not_answer/data_en.csv", "do_not_answer", 5632, 193),
        ("xstest/xstest_prompts.csv", "labelled", 450, 200),
    ],
)
def test_published_files_are_read_whole(file: str, format: str, rows: int, flagged: int, public_data: Path) -> None:
    read = read_labelled(str(public_data / file), PARSERS[format])
    labels = [row.prompt_label if row.response is None else row.response_label for row in read]
    assert (len(read), sum(label or 0 for label in labels)) == (rows, flagged)


# --------------------------------------------------------------------------------------------------------- do-not-answer
@pytest.mark.parametrize("name", SUFFIXES)
def test_every_models_response_is_a_row_with_its_own_label(name: str, tmp_path: Path) -> None:
    asked = {"question": "q", "a_response": "no", "a_harmful": 0, "a_action": 1, "b-2_response": "yes", "b-2_harmful": 1}
    source = write(tmp_path / name, asked, asked | {"question": "r", "a_response": "", "b-2_response": "no", "b-2_harmful": 0})
    assert read_labelled(source, PARSERS["do_not_answer"]) == [
        Labelled("q", "no", None, 0), Labelled("q", "yes", None, 1), Labelled("r", "no", None, 0),
    ]  # fmt: skip
    for row, problem in (
        ({"question": "q", "response": "a"}, "has no column M_response of a model M; its columns are question, response"),
        ({"question": "q", "a_response": "a"}, "format do_not_answer needs column a_harmful"),
        ({"question": "q", "a_response": "a", "a_harmful": 3}, "a_harmful is"),
    ):
        with pytest.raises(DataError, match=problem):
            read_labelled(write(tmp_path / f"bad-{name}", row), PARSERS["do_not_answer"])


def test_rows_that_are_held_out_are_whole_prompts_and_the_same_for_every_seed(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "a_response": "a", "a_harmful": n % 2, "b_response": "b", "b_harmful": 0} for n in range(30)]
    source = write(tmp_path / "a.jsonl", *rows)
    data = DoNotAnswerData(format="do_not_answer", path=source, held_out=20)  # type: ignore[call-arg]
    (every, tests), (_, again) = data.read(0), data.read(1)
    assert len(every) == 60 and list(tests) == ["held_out"] and tests == again
    held = tests["held_out"]
    assert len(held) == 20 and len({row.prompt for row in held}) == 10 and set(held) < set(every)


# ----------------------------------------------------------------------------------------------------------------- split
def some_rows(safe: int, unsafe: int) -> list[Labelled]:
    return [Labelled(f"row {i}", None, int(i >= safe)) for i in range(safe + unsafe)]


def test_parts_have_their_sizes_and_do_not_overlap() -> None:
    parts = split(some_rows(60, 40), [70, 10, 20], seed=0)
    assert [len(part) for part in parts] == [70, 10, 20]
    assert {row for part in parts for row in part} == set(some_rows(60, 40))


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_label(seed: int) -> None:
    for part in split(some_rows(900, 100), [500, 73, 200], seed):
        assert abs(sum(row.prompt_label or 0 for row in part) - len(part) / 10) <= 2
        assert {row.prompt_label for row in part} == {0, 1}


def test_labels_of_prompt_and_response_are_stratified_together() -> None:
    rows = [Labelled(f"{p} {r} {i}", "r", p, r) for p in (0, 1) for r in (0, 1) for i in range(50)]
    for part in split(rows, [100, 40], seed=1):
        counts = Counter((row.prompt_label, row.response_label) for row in part)
        assert all(abs(count - len(part) / 4) <= 2 for count in counts.values())
        assert len(counts) == 4


def test_all_rows_of_a_prompt_are_in_one_part() -> None:
    rows = [Labelled(f"prompt {i}", f"r{j}", None, (i + j) % 2) for i in range(60) for j in range(1 + i % 4)]
    parts = split(rows, [60, 30, 40], seed=0)
    prompts = [{row.prompt for row in part} for part in parts]
    assert [len(part) for part in parts] == [60, 30, 40]
    assert not prompts[0] & prompts[1] and not prompts[1] & prompts[2] and not prompts[0] & prompts[2]


def test_a_part_depends_on_the_seed_and_not_on_the_parts_after_it() -> None:
    rows = some_rows(50, 50)
    assert split(rows, [30, 20], 3)[0] == split(rows, [30, 60], 3)[0] == split(rows, [30], 3)[0]
    assert split(rows, [30], 3) != split(rows, [30], 4)


def test_every_row_can_be_in_a_part() -> None:
    rows = some_rows(10, 5)
    assert {row for seed in range(60) for row in split(rows, [3], seed)[0]} == set(rows)


def test_too_few_rows_are_refused_with_the_numbers() -> None:
    rows = [Labelled("a", str(i), None, i % 2) for i in range(9)]
    with pytest.raises(DataError, match=r"parts of 5 \+ 4 rows cannot be had from 9 rows of 1 prompts"):
        split(rows, [5, 4], seed=0)
