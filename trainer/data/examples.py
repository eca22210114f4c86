"""Examples for supervised fine-tuning: a conversation and the reply to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainer.data.files import Located
from trainer.data.hub import read_source
from trainer.data.messages import prompt_of, reply_of
from trainer.errors import DataError
from trainer.items import Message

PROMPTS = ("prompt", "instruction", "question")
REPLIES = ("completion", "response", "output", "answer")


@dataclass(frozen=True)
class Example:
    """Attributes: prompt ends with the user; where: the file and row that it came from."""

    prompt: tuple[Message, ...]
    reply: str
    where: str = ""


def read_examples(source: str, split: str = "train") -> list[Example]:
    """The examples of a file, a directory of files or a hub dataset: a column `messages`, or one of `PROMPTS` (with `input`
    below it, where there is one) and one of `REPLIES`.

    Raises:
        DataError: nothing can be read, or a row has no such columns or no text in them.
    """
    return [_example(row) for row in read_source(source, split)]


def _example(located: Located) -> Example:
    where, row = located
    if "messages" in row:
        messages = row["messages"]
        if not isinstance(messages, list) or len(messages) < 2:
            raise DataError(f"{where}: messages must be a list that ends with a user's message and the reply to it.")
        return Example(prompt_of(messages[:-1], where, "messages"), reply_of(messages[-1:], where, "messages"), where)
    prompt, reply = (next((name for name in names if name in row), None) for names in (PROMPTS, REPLIES))
    if prompt is None or reply is None:
        raise DataError(
            f"{where}: no example: its columns are {', '.join(map(str, row))}. Give messages, or one of {', '.join(PROMPTS)} "
            f"and one of {', '.join(REPLIES)}."
        )
    given = row[prompt]
    if isinstance(given, str) and row.get("input"):
        given = f"{given}\n\n{row['input']}"
    return Example(prompt_of(given, where, prompt), reply_of(row[reply], where, reply), where)


def sft_rows(examples: Iterable[Example]) -> list[dict[str, Any]]:
    """As TRL's SFTTrainer has them: the loss counts the completion alone."""
    return [{"prompt": list(e.prompt), "completion": [{"role": "assistant", "content": e.reply}]} for e in examples]
