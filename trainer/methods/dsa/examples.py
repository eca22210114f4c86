"""Labelled texts as token ids: a chat with the prompt, up to where the reply begins, and the response after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from trainer.data.labelled import Labelled
from trainer.errors import DataError

LABELS = ("prompt", "response")


@dataclass(frozen=True)
class Example:
    """Attributes:
    ids: token ids.
    positions: index of the last token of the prompt and of the text; the same where there is no response.
    labels: of the prompt and of the response; None where it is not known.
    """

    ids: list[int]
    positions: tuple[int, int]
    labels: tuple[int | None, int | None]


def encode(tokenizer: Any, rows: Sequence[Labelled]) -> list[Example]:
    """One example per row.

    Raises:
        DataError: the chat template refuses a user's turn.
    """
    if not rows:
        return []
    try:
        chats = [[{"role": "user", "content": row.prompt}] for row in rows]
        prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True)["input_ids"]
    except (TemplateError, ValueError) as error:
        raise DataError(f"data: the tokenizer's chat template refuses a prompt of one user turn: {error}") from error
    said = [row.response or "" for row in rows]
    responses = tokenizer(said, add_special_tokens=False, split_special_tokens=True)["input_ids"]  # no text ends the turn
    examples = []
    for row, prompt, response in zip(rows, prompts, responses, strict=True):
        ids = [*prompt, *response]
        examples.append(Example(ids, (len(prompt) - 1, len(ids) - 1), (row.prompt_label, row.response_label)))
    return examples


def labels_in(examples: Iterable[Example]) -> tuple[str, ...]:
    """The labels that at least one of them has."""
    rows = list(examples)
    return tuple(name for place, name in enumerate(LABELS) if any(row.labels[place] is not None for row in rows))
