"""Preference data: every format and file kind ends in the same pairs, and nothing is left out without being counted."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.data import reading
from trainer.data.files import located
from trainer.data.formats.cosalign import from_cosalign
from trainer.data.formats.preference import from_preference
from trainer.data.formats.transcripts import from_transcripts, parse_transcript
from trainer.data.preferences import Preference, Preferences, dpo_examples, sft_examples
from trainer.errors import DataError
from trainer.kinds import FORMATS
from trainer.sandbox.candidates import synthesise

HH_RLHF = Path(__file__).parents[2].parent / "shared" / "data" / "hh_rlhf"

Rows = Sequence[dict[str, Any]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def read(path: Path, format_: Any = "preference", **more: Any) -> Preferences:
    return reading.read(format_, str(path), **more)


# ------------------------------------------------------------------------------------------------------------ transcripts
@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("\n\nHuman: hi\n\nAssistant: hello", [user("hi"), assistant("hello")]),
        ("Human: hi\n\nAssistant: hello", [user("hi"), assistant("hello")]),
        # turns of one speaker in a row are one turn
        ("\n\nHuman: hi\n\nHuman: there\n\nAssistant: a\n\nAssistant: b", [user("hi\n\nthere"), assistant("a\n\nb")]),
        ("\n\nHuman:\n\nHuman: there\n\nAssistant: a", [user("there"), assistant("a")]),
        # a speaker's name inside a line, or at the start of one without the empty line before it, is text
        ("\n\nHuman: who said Human: hi?\n\nAssistant: no Assistant: did",
         [user("who said Human: hi?"), assistant("no Assistant: did")]),
        ("\n\nHuman: a list\nHuman: one\nAssistant: two\n\nAssistant: ok",
         [user("a list\nHuman: one\nAssistant: two"), assistant("ok")]),
        ("\n\nHuman: the word\n\nHumanity: x\n\nAssistant: ok", [user("the word\n\nHumanity: x"), assistant("ok")]),
        ("\n\nHuman: hi\n\nhuman: low\n\nAssistant: ok", [user("hi\n\nhuman: low"), assistant("ok")]),
        # paragraphs stay; space around a turn goes
        ("\n\nHuman:   hi  \n\nAssistant: one\n\ntwo\n\n\nthree \n", [user("hi"), assistant("one\n\ntwo\n\n\nthree")]),
        # an empty turn is a turn
        ("\n\nHuman: hi\n\nAssistant:", [user("hi"), assistant("")]),
        ("\n\nHuman:\n\nAssistant: a", [user(""), assistant("a")]),
        ("\n\nAssistant: a\n\nHuman: b", [assistant("a"), user("b")]),
    ],
)  # fmt: skip
def test_a_transcript_is_cut_at_its_turns_and_nowhere_else(text: str, messages: list[dict[str, str]]) -> None:
    assert parse_transcript(text) == tuple(messages)


@pytest.mark.parametrize("text", ["", "  \n", "hello", "hello\n\nHuman: hi\n\nAssistant: a", "human: hi"])
def test_text_that_does_not_start_with_a_turn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not start with a Human: or Assistant: turn"):
        parse_transcript(text)


def hh(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {"chosen": f"{prompt}\n\nAssistant: {chosen}", "rejected": f"{prompt}\n\nAssistant: {rejected}"}


TURN = "\n\nHuman: q"
USABLE = hh(TURN, "good", "bad")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (hh(TURN, "", "bad"), "empty response"),
        (hh(TURN, "good", "  \n"), "empty response"),
        (hh(TURN, "same", "same "), "chosen equals rejected"),
        ({"chosen": f"{TURN}\n\nAssistant: a{TURN}", "rejected": TURN}, "last turn is not the assistant's"),
        ({"chosen": f"{TURN}\n\nAssistant: a", "rejected": TURN}, "last turn is not the assistant's"),
        ({"chosen": f"{TURN}\n\nAssistant: a", "rejected": "\n\nHuman: other\n\nAssistant: b"},
         "chosen and rejected answer different prompts"),
        (hh("\n\nAssistant: welcome\n\nHuman: q", "a", "b"), "does not start with a user turn"),
        (hh("", "a", "b"), "does not start with a user turn"),
    ],
)  # fmt: skip
def test_an_unusable_pair_of_transcripts_is_left_out_and_counted(row: dict[str, Any], reason: str) -> None:
    result = from_transcripts(located([USABLE, row, row, USABLE], "here"))
    assert result.pairs == [Preference((user("q"),), "good", "bad")] * 2
    assert result.dropped == {reason: 2}
    assert result.rows == 4


def test_a_transcripts_prompt_is_the_whole_conversation_before_the_last_reply() -> None:
    result = from_transcripts(located([hh("\n\nHuman: one\n\nAssistant: two\n\nHuman: three", "good", "bad")], "here"))
    assert result.pairs == [Preference((user("one"), assistant("two"), user("three")), "good", "bad")]


# --------------------------------------------------------------------------------------------------------------- CoSAlign
PUBLISHED = {
    "system_prompt": "Permitted:\n- Violence: ...",
    "prompt": "p",
    "chosen_response": "good",
    "rejected_response": "bad",
    "spec_i": "-Violence-Illegal Drug-Related Activities and Substance Abuse-",
    "spec_j": "--",
    "mode": "superset",
    "chosen_cat": "--",
    "rejected_cat": "-Other Harms-",
    "chosen_category_error_score": 0.0,
    "rejected_category_error_score": 3.0,
}
AS_READ = Preference((system("Permitted:\n- Violence: ..."), user("p")), "good", "bad")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_published_cosalign_schema_is_accepted_as_it_is(kind: str, tmp_path: Path) -> None:
    """Every column, `--` for no category, and a column that nobody announced."""
    WRITERS[kind](tmp_path / f"train.{kind}", [{**PUBLISHED, "split_of_the_author": 7}] * 3)
    result = read(tmp_path / f"train.{kind}", "cosalign")
    assert result.pairs == [AS_READ] * 3
    assert (result.rows, result.dropped) == (3, {})


def test_the_label_columns_of_cosalign_may_be_absent_or_null() -> None:
    bare = {k: PUBLISHED[k] for k in ("system_prompt", "prompt", "chosen_response", "rejected_response")}
    assert from_cosalign(located([bare, {**PUBLISHED, "spec_i": None}], "here")).pairs == [AS_READ, AS_READ]


@pytest.mark.parametrize("label", ["(-Violence-, 1)", "(--, 0)", "-Illegal Drug_Related Activities and Substance Abuse-"])
def test_both_published_forms_of_a_reply_label_are_read(label: str) -> None:
    assert from_cosalign(located([{**PUBLISHED, "chosen_cat": label, "rejected_cat": label}], "here")).pairs == [AS_READ]
    with pytest.raises(DataError, match="chosen_cat: unknown risk category in label '-Violense-'"):
        from_cosalign(located([{**PUBLISHED, "chosen_cat": "(-Violense-, 1)"}], "here"))


def test_cosalign_pairs_without_a_difference_are_left_out_and_counted() -> None:
    rows: Any = [PUBLISHED, {**PUBLISHED, "chosen_response": " "}, {**PUBLISHED, "rejected_response": "good"}]
    result = from_cosalign(located(rows, "here"))
    assert result.pairs == [AS_READ]
    assert result.dropped == {"empty response": 1, "chosen equals rejected": 1}


def test_what_the_sandbox_synthesises_is_read_back_whole(tmp_path: Path) -> None:
    made = synthesise(prompts=12, pairs_per_config=2, seed=0)
    WRITERS["jsonl"](tmp_path / "made.jsonl", made)
    result = read(tmp_path / "made.jsonl", "cosalign")
    assert [p.prompt[1]["content"] for p in result.pairs] == [row["prompt"] for row in made]
    assert [(p.chosen, p.rejected) for p in result.pairs] == [(r["chosen_response"], r["rejected_response"]) for r in made]


# ------------------------------------------------------------------------------------------------------------- preference
def test_a_preference_as_text_and_as_messages_is_the_same_pair() -> None:
    text = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    messages = {"prompt": [user("q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]}
    mixed = {"prompt": "q", "chosen": [assistant("good")], "rejected": "bad"}
    for row in (text, messages, mixed):
        assert from_preference(located([row], "here")).pairs == [Preference((user("q"),), "good", "bad")]


def test_messages_keep_their_roles_and_lose_what_else_is_in_them(tmp_path: Path) -> None:
    chat = [system("be kind"), user("one"), assistant("two"), user("three")]
    noisy = [{**message, "id": 5} for message in chat]
    WRITERS["jsonl"](tmp_path / "f.jsonl", [{"prompt": noisy, "chosen": "good", "rejected": "bad"}])
    assert read(tmp_path / "f.jsonl").pairs == [Preference(tuple(chat), "good", "bad")]


TALK = [user("q"), assistant("a"), user("r")]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"chosen": [*TALK, assistant("good")], "rejected": [*TALK, assistant("bad")]}, TALK),  # TRL's implicit prompt
        ({"prompt": "r", "chosen": [*TALK, assistant("good")], "rejected": [*TALK, assistant("bad")], "messages": []}, TALK),
        ({"prompt": "q ", "chosen": [*TALK, assistant("good")], "rejected": [*TALK, assistant("bad")]}, TALK),  # UltraFeedback
        ({"system": "s", "question": "q", "chosen": "good", "rejected": "bad"}, [system("s"), user("q")]),  # Orca
        ({"instruction": "q", "input": "i", "chosen": "good", "rejected": "bad"}, [user("q\n\ni")]),  # LLaMA-Factory
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "bad"},
            },
            [user("q")],
        ),
        (
            {
                "system": "s",
                "chosen": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}],
                "rejected": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "bad"}],
            },
            [system("s"), user("q")],
        ),
    ],
)  # fmt: skip
def test_the_shapes_in_which_pairs_are_published(row: dict[str, Any], prompt: list[dict[str, str]]) -> None:
    assert from_preference(located([row], "here")).pairs == [Preference(tuple(prompt), "good", "bad")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "more", "reason"),
    [
        ([*TALK, assistant("good")], TALK, {}, "last turn is not the assistant's"),
        ([*TALK, assistant("good")], [user("x"), assistant("bad")], {}, "chosen and rejected answer different prompts"),
        ([*TALK, assistant("a")], [*TALK, assistant("b")], {"prompt": "x"}, "the prompt is not in the conversation"),
        ([system("s"), assistant("a")], [system("s"), assistant("b")], {}, "the reply is not to a user turn"),
        ([*TALK, assistant("a")], [*TALK, assistant("a")], {}, "chosen equals rejected"),
    ],
)
def test_conversations_that_are_no_pair_are_left_out_and_counted(
    chosen: Any, rejected: Any, more: dict[str, Any], reason: str
) -> None:
    found = from_preference(located([{"chosen": chosen, "rejected": rejected, **more}], "here"))
    assert (found.pairs, found.dropped) == ([], {reason: 1})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"chosen": "a", "rejected": "b", "text": "c"},
            "needs column prompt where chosen and rejected are replies; it has cho",
        ),
        ({"prompt": "p", "history": [["a", "b"]], "chosen": "a", "rejected": "b"}, "history: earlier turns in a column"),
        ({"prompt": [system("s"), user("u")], "system": "t", "chosen": "a", "rejected": "b"}, "system: the messages beside it"),
        (
            {"prompt": [{"role": "tool", "content": "x"}], "chosen": "a", "rejected": "b"},
            "message 1: role is 'tool'; known: sys",
        ),
        ({"prompt": [{"role": "user", "content": None}], "chosen": "a", "rejected": "b"}, "content must be text, is NoneType"),
    ],
)
def test_a_pair_that_would_lose_something_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_preference(located([row], "here"))


# -------------------------------------------------------------------------------------------------------------- PKU-SafeRLHF
PKU = {"prompt": "q", "response_0": "zero", "response_1": "one", "is_response_0_safe": True, "better_response_id": 1}


@pytest.mark.parametrize(("prefer", "chosen"), [("safer", "zero"), ("better", "one")])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_pku_pairs_by_what_is_preferred(kind: str, prefer: str, chosen: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / f"f.{kind}", [{**PKU, "safer_response_id": 0}])
    (pair,) = read(tmp_path / f"f.{kind}", "pku", prefer=prefer).pairs
    assert (pair.prompt, {pair.chosen, pair.rejected}, pair.chosen) == ((user("q"),), {"zero", "one"}, chosen)


def test_pku_pairs_in_a_list_have_the_safer_first(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [{"prompt": "q", "response": ["good", "bad"]}])
    assert read(tmp_path / "f.jsonl", "pku").pairs == [Preference((user("q"),), "good", "bad")]
    with pytest.raises(DataError, match=r"not which is the better; use data\.prefer=safer"):
        read(tmp_path / "f.jsonl", "pku", prefer="better")
    write_jsonl(tmp_path / "f.jsonl", [{**PKU, "safer_response_id": -1}])
    with pytest.raises(DataError, match="safer_response_id is -1; it must be 0 or 1"):
        read(tmp_path / "f.jsonl", "pku")


# ---------------------------------------------------------------------------------------------------------- demonstrations
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [system("s"), user("q"), assistant("a"), user("r"), assistant("b")]},
        {"messages": [system("s"), user("q"), assistant("a"), user("r"), assistant([{"type": "text", "text": "b"}])]},
        {
            "system": "s",
            "conversations": [
                *[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
                *[{"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}],
            ],
        },
    ],
)
def test_every_reply_of_a_conversation_is_one_to_imitate(row: dict[str, Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [row])
    found = read(tmp_path / "f.jsonl", "chat")
    first, second = (system("s"), user("q")), (system("s"), user("q"), assistant("a"), user("r"))
    assert found.pairs == [Preference(first, "a"), Preference(second, "b")]
    assert [example["completion"] for example in sft_examples(found.pairs)] == [[assistant("a")], [assistant("b")]]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "q", "input": "i", "output": "a"}, [user("q\n\ni")]),
        ({"instruction": "q", "input": "", "output": "a"}, [user("q")]),
        ({"instruction": "", "input": "i", "output": "a"}, [user("i")]),
        ({"instruction": "q", "context": "i", "response": "a", "category": "x"}, [user("q\n\ni")]),
        ({"system": "s", "prompt": "q", "completion": "a"}, [system("s"), user("q")]),
        ({"prompt": [user("q")], "completion": [assistant("a")]}, [user("q")]),
    ],
)
def test_one_reply_to_one_request_is_one_to_imitate(row: dict[str, Any], prompt: list[dict[str, str]], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [row])
    assert read(tmp_path / "f.jsonl", "chat").pairs == [Preference(tuple(prompt), "a")]


def test_conversations_without_a_reply_to_the_user_are_left_out_and_counted(tmp_path: Path) -> None:
    silent = [{"messages": turns} for turns in ([user("q")], [assistant("a")], [system("s"), assistant("a")])]
    write_jsonl(tmp_path / "f.jsonl", [*silent, {"messages": [user("q"), assistant(" ")]}])
    found = read(tmp_path / "f.jsonl", "chat")
    assert (found.pairs, found.dropped) == ([], {"no reply to a user turn": 3, "empty response": 1})


def test_what_is_no_conversation_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [{"text": "q", "output": "a"}])
    with pytest.raises(
        DataError, match=r"row 1: format chat needs messages or conversations, or a reply .* it has text, output"
    ):
        read(tmp_path / "f.jsonl", "chat")


# ------------------------------------------------------------------------------------------------------------- file kinds
def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def zipped(write: Callable[[Path, Rows], Any]) -> Callable[[Path, Rows], Any]:
    def write_zipped(path: Path, rows: Rows) -> None:
        write(path, rows)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_zipped


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps(list(rows), indent=1))


def write_parquet(path: Path, rows: Rows) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


WRITERS: dict[str, Callable[[Path, Rows], Any]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
    "jsonl.gz": zipped(write_jsonl),
    "json.gz": zipped(write_json),
    "csv.gz": zipped(write_csv),
}
FIVE = [
    {"prompt": f"question {i}", "chosen": f"good {i}, with a comma", "rejected": f'bad {i}\n\n"quoted" ünd 漢字'}
    for i in range(5)
]
FIVE_PAIRS = [Preference((user(r["prompt"]),), r["chosen"], r["rejected"]) for r in FIVE]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_reads_the_same(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / f"my.data.{kind}", FIVE)
    result = read(tmp_path / f"my.data.{kind}")
    assert result.pairs == FIVE_PAIRS
    assert (result.rows, result.dropped) == (5, {})


@pytest.mark.parametrize("cell", ["None", "42", "true"])
def test_a_cell_of_a_csv_is_the_text_that_stands_there(cell: str, tmp_path: Path) -> None:
    """Answers such as `42` or `None` are text, not a number or a missing value."""
    write_csv(tmp_path / "f.csv", [{"prompt": "q", "chosen": cell, "rejected": "bad"}])
    assert read(tmp_path / "f.csv").pairs == [Preference((user("q"),), cell, "bad")]


def test_a_date_in_json_is_the_text_that_stands_there(tmp_path: Path) -> None:
    rows = [{"prompt": f"when {i} ?", "chosen": "2020-01-01", "rejected": "never"} for i in range(2)]
    write_jsonl(tmp_path / "f.jsonl", rows)
    assert [pair.chosen for pair in read(tmp_path / "f.jsonl").pairs] == ["2020-01-01"] * 2


def test_the_files_of_a_directory_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "part-1.jsonl", FIVE[3:])
    write_jsonl(tmp_path / "part-0.jsonl", FIVE[:3])
    (tmp_path / "README.md").write_text("not data")
    assert read(tmp_path).pairs == FIVE_PAIRS


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 3), (5, 5), (99, 5), (None, 5)])
def test_a_limit_draws_rows_and_keeps_their_order(limit: int | None, expected: int, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", FIVE)
    result = read(tmp_path / "f.jsonl", limit=limit)
    assert result.rows == len(result.pairs) == expected
    assert result.pairs == [pair for pair in FIVE_PAIRS if pair in result.pairs]


def test_a_limit_of_the_sandbox_takes_its_first_rows() -> None:
    """They are shuffled when they are made."""
    made: Any = FORMATS["sandbox_mix"]
    whole, cut = (made(format="sandbox_mix", prompts=12, limit=limit).read(0).pairs for limit in (None, 5))
    assert cut == whole[:5]


def test_a_file_that_was_edited_is_read_anew(tmp_path: Path) -> None:
    """Nobody wants to train on last week's version out of a cache."""
    path = tmp_path / "f.jsonl"
    write_jsonl(path, FIVE)
    assert read(path).rows == 5
    write_jsonl(path, FIVE[:2])
    assert read(path).pairs == FIVE_PAIRS[:2]


# --------------------------------------------------------------------------------------------------- examples for training
ONE, TWO = (system("s1"), user("q")), (system("s2"), user("q"))
PAIRS = [Preference(ONE, "a", "x"), Preference(TWO, "b", "x"), Preference(ONE, "c", "y"), Preference(ONE, "a", "z")]


def test_sft_has_one_example_for_a_system_prompt_and_prompt_the_last_chosen() -> None:
    pairs = [*PAIRS, Preference(ONE, "d", "z")]
    assert list(sft_examples(pairs)) == [
        {"prompt": list(ONE), "completion": [assistant("d")]},
        {"prompt": list(TWO), "completion": [assistant("b")]},
    ]


def test_dpo_has_every_pair() -> None:
    examples = list(dpo_examples(PAIRS))
    assert [(e["chosen"], e["rejected"]) for e in examples] == [
        ([assistant(pair.chosen)], [assistant(pair.rejected)]) for pair in PAIRS
    ]
    assert [e["prompt"] for e in examples] == [list(pair.prompt) for pair in PAIRS]


# -------------------------------------------------------------------------------------------------------------- real data
@pytest.mark.real_data
@pytest.mark.skipif(not HH_RLHF.exists(), reason=f"Anthropic's hh-rlhf is not at {HH_RLHF}")
def test_anthropics_hh_rlhf_is_read_whole() -> None:
    result = read(HH_RLHF / "harmless-base_test.jsonl.gz", "transcripts")
    assert result.rows == 2312
    assert len(result.pairs) == 2308
    assert result.dropped == {"empty response": 4}
    for pair in result.pairs:
        roles = [message["role"] for message in pair.prompt]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "format_", "pairs"),
    [
        ("pku_saferlhf/pairs_5k.json", "pku", 5135),
        ("safety_tuned_llamas/safety_only.json", "chat", 2483),
        ("dolly/dolly_1000.csv", "chat", 1000),
        ("gsm8k/test_300.jsonl", "chat", 300),
        ("sql_create_context/sample_1000.csv", "chat", 1000),
        ("mmlu/sample_1000.csv", "chat", 1000),
    ],
)
def test_published_files_are_read_whole(file: str, format_: str, pairs: int, public_data: Path) -> None:
    found = read(public_data / file, format_)
    assert len(found.pairs) + sum(found.dropped.values()) == found.rows == pairs
    assert len(found.pairs) >= 0.99 * pairs


# -------------------------------------------------------------------------- what a column or a key of a message changes
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [TURNS[0], {**TURNS[1], "weight": 0}]}, "message 2: weight is 0, and every reply is learned from here"),
        (
            {"messages": [TURNS[0], {**TURNS[1], "tool_calls": [{"id": 1}]}]},
            "message 2: tool_calls: calls of tools are not read",
        ),
        ({"instruction": "i", "prompt": "p", "output": "o"}, "prompt and instruction are both there and differ"),
        ({"instruction": "i", "output": "o", "response": "r"}, "output and response are both there and differ"),
        ({"instruction": "i", "input": "x", "context": "y", "output": "o"}, "input and context are both there and differ"),
        ({"prompt": "p", "response": "r", "is_safe": False}, r"the column is_safe may say .* data\.ignore=\[is_safe\]"),
        ({"messages": TURNS, "toxic": True}, "the column toxic may say"),
        ({"messages": TURNS, "redacted": "false"}, "the column redacted may say"),
    ],
)
def test_what_may_change_a_demonstration_is_refused(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"row 1: .*{said}"):
        reading.read("chat", str(tmp_path / "f.jsonl"))


def test_what_does_not_is_read(tmp_path: Path) -> None:
    rows = [
        {"messages": [TURNS[0], {**TURNS[1], "weight": 1, "tool_calls": []}], "category": "safe"},
        {"instruction": "q", "prompt": "q", "input": "", "context": "", "output": "a", "response": "a", "toxic": None},
    ]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found: Any = reading.read("chat", str(tmp_path / "f.jsonl"))
    assert [pair.chosen for pair in found.pairs] == ["a", "a"] and found.pairs[0].prompt == found.pairs[1].prompt
    (tmp_path / "f.jsonl").write_text(json.dumps({"messages": TURNS, "toxic": True, "redacted": False}) + "\n")
    for ignore in (["toxic", "redacted"], ["*"]):
        assert len(reading.read("chat", str(tmp_path / "f.jsonl"), ignore=ignore).pairs) == 1
