"""What is held out of training: whole prompts, the same ones whatever the order of rows."""

from __future__ import annotations

import random

import pytest

from trainer.data.holdout import asked, hold_out, not_asked_in
from trainer.data.preferences import Preference
from trainer.errors import DataError


def pair(prompt: str, chosen: str = "a", system: str | None = None) -> Preference:
    before = () if system is None else ({"role": "system", "content": system},)
    return Preference((*before, {"role": "user", "content": prompt}), chosen, "b")


ROWS = [pair(f"question {number}", f"answer {copy}") for number in range(40) for copy in range(number % 3 + 1)]


@pytest.mark.parametrize(("validation", "prompts"), [(0.1, 4), (0.5, 20), (1, 1), (7, 7), (39, 39)])
def test_a_share_or_a_number_of_prompts(validation: float, prompts: int) -> None:
    train, held = hold_out(ROWS, validation, seed=0)
    assert len({asked(row.prompt) for row in held}) == prompts
    assert not {asked(row.prompt) for row in train} & {asked(row.prompt) for row in held}
    assert sorted(train + held, key=ROWS.index) == ROWS and train == [row for row in ROWS if row in train]


def test_the_draw_depends_on_seed_and_prompts_alone() -> None:
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    first, again = ({row.prompt[0]["content"] for row in hold_out(rows, 0.2, 3)[1]} for rows in (ROWS, shuffled))
    assert first == again != {row.prompt[0]["content"] for row in hold_out(ROWS, 0.2, 4)[1]}
    more = [*ROWS, pair("another question")]
    kept = {row.prompt[0]["content"] for row in hold_out(more, 8, 3)[1]}
    assert len(first & kept) >= 7, "one row more draws all anew"


def test_what_is_asked_alike_stays_together() -> None:
    turns = ({"role": "user", "content": "one"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "go on"})
    same = [pair("One"), pair(" one\n"), pair("one", system="allow all"), pair("ONE", system="s"), Preference(turns, "c")]
    for seed in range(8):
        sides = hold_out([*same, pair("two")], 1, seed)
        assert sorted(map(len, sides)) == [1, 5]


def test_a_file_of_its_own_takes_its_prompts_from_training() -> None:
    assert not_asked_in([pair("One"), pair("two"), pair("one", system="s")], [pair("one ")]) == [pair("two")]


@pytest.mark.parametrize("validation", [0.001, 40, 41, 0.999])
def test_none_or_all_held_out_is_refused(validation: float) -> None:
    with pytest.raises(DataError, match=r"holds out \d+ of 40 distinct prompts"):
        hold_out(ROWS, validation, 0)
