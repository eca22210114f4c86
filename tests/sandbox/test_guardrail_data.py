"""What the sandbox gives a guardrail: exact labels, nothing to be guessed from the form, and test sets kept apart."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from trainer.data.labelled import Labelled
from trainer.methods.dsa.measure import auc
from trainer.sandbox import guardrail
from trainer.sandbox.benchmark import safety_items, sandbox_items
from trainer.sandbox.guardrail import TEST_ROWS, TEST_SETS, sandbox_labelled, sandbox_test_sets
from trainer.sandbox.requests import COLOURS, PHRASINGS, REFUSAL
from trainer.sandbox.tokenizer import build_tokenizer
from trainer.sandbox.world import Thing, world


@pytest.fixture(scope="module")
def rows() -> list[Labelled]:
    return sandbox_labelled(2000, seed=0)


def things_in(text: str) -> list[Thing]:
    return [world().things[word] for word in text.split() if word in world().things]


def every_row(rows: list[Labelled]) -> list[Labelled]:
    return [*rows, *(row for test in sandbox_test_sets().values() for row in test)]


def masked(text: str) -> str:
    """The form of a text: which object, ingredient or colour it names is hidden."""
    w = world()
    names = dict.fromkeys(w.things, "X") | dict.fromkeys(w.ingredients, "I") | dict.fromkeys(COLOURS, "C")
    return " ".join(names.get(word, word) for word in text.split())


# ---------------------------------------------------------------------------------------------------------------- labels
def test_a_prompt_is_unsafe_exactly_when_it_asks_for_the_recipe_of_a_risky_object(rows: list[Labelled]) -> None:
    for row in every_row(rows):
        things = things_in(row.prompt)
        asks = masked(row.prompt).replace("X and X", "X") in {p.replace("{x}", "X") for p in PHRASINGS}
        if row.prompt_label is not None:
            assert row.prompt_label == int(asks and any(t.category for t in things)), row


def test_a_response_is_unsafe_exactly_when_it_tells_the_recipe_of_a_risky_object(rows: list[Labelled]) -> None:
    """The judge's label against a second reading, sentence by sentence."""
    seen = Counter[int]()
    for row in every_row(rows):
        if row.response_label is not None:
            sentences = (row.response or "").split(" .")
            told = [s for s in sentences if " : mix " in s and s.split()[0] != "toy"]
            unsafe = any(t.category for s in told for t in things_in(s))
            assert row.response_label == int(unsafe), row
            seen[row.response_label] += 1
    assert min(seen.values()) > 500


def test_prompts_are_unsafe_and_safe_in_turn_and_distinct(rows: list[Labelled]) -> None:
    assert [row.prompt_label for row in rows] == [1, 0] * 1000
    assert len({row.prompt for row in rows}) == 2000


def test_every_answer_occurs_after_unsafe_and_after_safe_prompts(rows: list[Labelled]) -> None:
    """Else reading the prompt alone would label the response."""
    counts = Counter((row.prompt_label, row.response_label) for row in rows)
    assert min(counts.values()) >= 200, counts  # a tenth of the rows
    for label in (0, 1):
        answers = [row.response for row in rows if row.prompt_label == label]
        assert answers.count(REFUSAL) > 100
        assert sum("toy" in str(answer).split() for answer in answers) > 20


def test_direct_and_indirect_phrasings_ask_for_risky_and_for_harmless_recipes(rows: list[Labelled]) -> None:
    for label in (0, 1):
        forms = Counter(masked(row.prompt).replace("X and X", "X") for row in rows if row.prompt_label == label)
        assert all(forms[phrasing.replace("{x}", "X")] > 20 for phrasing in PHRASINGS), forms


@pytest.mark.parametrize("name", TEST_SETS)
def test_the_form_of_a_text_does_not_give_its_label_away(rows: list[Labelled], name: str) -> None:
    """A guess from the form, learnt on the training rows, stays far from a guardrail that knows the objects."""

    def form(row: Labelled) -> str:
        return masked(row.prompt if row.response is None or name != "responses" else row.response)

    def label(row: Labelled) -> int:
        value = row.response_label if name == "responses" else row.prompt_label
        assert value is not None
        return value

    labels_of: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        labels_of[form(row)].append(label(row))
    share = {text: sum(values) / len(values) for text, values in labels_of.items()}
    test = sandbox_test_sets()[name]
    guessed = auc([label(row) for row in test], [share.get(form(row), 0.5) for row in test], resamples=2, seed=0)
    assert 0.5 < guessed["value"] < 0.9


# ------------------------------------------------------------------------------------------------------------- test sets
def test_there_are_three_test_sets_with_one_kind_of_label_each_in_turn() -> None:
    sets = sandbox_test_sets()
    assert tuple(sets) == TEST_SETS
    for name in ("seen", "unseen"):
        assert [row.prompt_label for row in sets[name]] == [1, 0] * (TEST_ROWS // 2)
        assert all(row.response is None and row.response_label is None for row in sets[name])
    assert [row.response_label for row in sets["responses"]] == [1, 0] * (TEST_ROWS // 2)
    assert all(row.response and row.prompt_label is None for row in sets["responses"])


def test_only_the_seen_set_is_about_objects_of_the_training_rows(rows: list[Labelled]) -> None:
    def objects(some: list[Labelled]) -> set[str]:
        return {t.name for row in some for t in things_in(f"{row.prompt} {row.response}")}

    sets = sandbox_test_sets()
    assert objects(sets["seen"]) <= objects(rows)
    for name in ("unseen", "responses"):
        assert objects(sets[name]) == {t.name for t in world().things.values() if t.held_out}
    assert not any(world().things[name].held_out for name in objects(rows))


def test_no_prompt_is_in_two_sets_or_in_the_benchmark(rows: list[Labelled]) -> None:
    prompts = [row.prompt for row in every_row(rows)]
    assert len(prompts) == len(set(prompts))
    benchmark = {item.prompt for item in [*safety_items(400, 700, 400), *sandbox_items(120, 420, 200)]}
    assert benchmark.isdisjoint(prompts)
    rng = random.Random(0)  # the control: without care there would be some
    careless = guardrail._distinct(400, rng, frozenset(), held_out=True)
    assert benchmark & {request.prompt for request in careless}


def test_the_seed_alone_says_what_is_made() -> None:
    random.seed(1)
    first = sandbox_labelled(60, seed=3)
    random.seed(2)
    assert sandbox_labelled(60, seed=3) == first
    assert sandbox_labelled(60, seed=4) != first
    before = sandbox_test_sets()
    sandbox_test_sets.cache_clear()
    assert sandbox_test_sets() == before


def test_every_word_is_one_that_the_shipped_bases_know(rows: list[Labelled]) -> None:
    tokenizer = build_tokenizer()
    texts = " ".join(f"{row.prompt} {row.response or ''}" for row in every_row(rows))
    assert tokenizer.unk_token_id not in tokenizer(texts)["input_ids"]
