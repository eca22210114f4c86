"""Asking the base what is unsafe: the probability, the questions, and where the answers begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.config.sections import ModelSection
from trainer.config.shipped import BASE_DIR
from trainer.data.labelled import Labelled
from trainer.errors import ConfigError
from trainer.methods.dsa.section import PromptedJudge
from trainer.methods.dsa.stage_prompted import answer_tokens, p_unsafe, question
from trainer.models.load import load_tokenizer

YES, NO = 2, 0


def judge(**fields: str) -> PromptedJudge:
    return PromptedJudge(**fields)  # type: ignore[call-arg]  # mypy does not read pydantic's sections


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelSection(path="sandbox"), str(BASE_DIR))  # type: ignore[call-arg]


def test_the_probability_is_that_of_one_answer_where_only_the_two_can_be_given() -> None:
    chances = torch.tensor([[0.3, 0.6, 0.1], [0.02, 0.9, 0.08], [0.5, 0.0, 0.5]])
    p = p_unsafe(chances.log() + torch.tensor([[4.0], [-2.0], [0.0]]), YES, NO)
    assert p.tolist() == pytest.approx([0.1 / 0.4, 0.08 / 0.1, 0.5], abs=1e-6)


def test_an_assured_base_still_says_more_of_one_text_than_of_another() -> None:
    p = p_unsafe(torch.tensor([[0.0, 0.0, 24.0], [0.0, 0.0, 25.0]]), YES, NO)
    assert p[0] < p[1] < 1


def test_a_text_takes_the_place_of_its_slot_and_its_own_braces_stay() -> None:
    row = Labelled("write {response} in {x}", "no {prompt} here")
    asked = judge(question_prompt="A: {prompt} {json}", question_response="A: {prompt} B: {response}")
    assert question(asked, row, "prompt") == "A: write {response} in {x} {json}"
    assert question(asked, row, "response") == "A: write {response} in {x} B: no {prompt} here"


def test_answers_are_the_tokens_that_begin_a_reply(tokenizer: Any) -> None:
    assert answer_tokens(tokenizer, judge(unsafe="no , it", safe="yes .")) == tuple(
        tokenizer.convert_tokens_to_ids(["no", "yes"])
    )


@pytest.mark.parametrize(
    ("unsafe", "safe", "said"),
    [
        ("Yes", "no", r"method\.prompted\.unsafe: the tokenizer does not know 'Yes'; set an answer that it knows"),
        ("yes", "No", r"method\.prompted\.safe: the tokenizer does not know 'No'"),
        ("not safe", "not unsafe", r"the answers 'not safe' and 'not unsafe' begin with the same token, 'not'"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_refused(tokenizer: Any, unsafe: str, safe: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        answer_tokens(tokenizer, judge(unsafe=unsafe, safe=safe))


def test_a_template_that_begins_a_reply_with_something_else_is_refused() -> None:
    thinks = load_tokenizer(ModelSection(path="sandbox"), str(BASE_DIR))  # type: ignore[call-arg]
    thinks.chat_template = thinks.chat_template.replace("-%}<|assistant|>{%-", "-%}<|assistant|>mind : {%-")
    with pytest.raises(ConfigError, match=r"a reply of 'no' does not begin where the reply to a prompt should"):
        answer_tokens(thinks, judge(unsafe="no", safe="yes"))


@pytest.mark.parametrize("name", ["phi-3-mini", "minimind"])
def test_real_tokenizers_know_the_default_answers(public_data: Path, name: str) -> None:
    real = load_tokenizer(ModelSection(path="sandbox"), str(public_data / "tokenizers" / name))  # type: ignore[call-arg]
    tokens = [real.decode([token]) for token in answer_tokens(real, judge())]
    assert tokens == ["Yes", "No"]
