"""Conversations to imitate."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal

from pydantic import Field

from trainer.config.section import section
from trainer.data.files import Located, Row
from trainer.data.formats.pairs import DemonstrationFiles
from trainer.data.hub import read_source
from trainer.data.labelled import is_like_a_label
from trainer.data.messages import joined, messages_of, reply_of, request_of, system_of, the_one
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError
from trainer.items import Message

CONVERSATIONS = ("messages", "conversations", "conversation")
REPLIES = ("output", "response", "completion", "answer")


@section
class ChatFiles(DemonstrationFiles):
    """Replies to imitate: those of a conversation in messages (OpenAI) or conversations (sharegpt), each with all that was said
    before it; or one in output, response, completion or answer to what stands in instruction, prompt or question, with input
    and system beside it (alpaca).

    ignore: columns that look as if they said which replies are good ones, and do not count; `*` is all.
    """

    format: Literal["chat"]
    ignore: list[str] = Field(default_factory=list)

    def parse(self, rows: list[Located]) -> Preferences:
        return from_chat(rows, self.ignore)


def read_examples(source: str, split: str | None = None) -> list[Preference]:
    """Replies to imitate, of a file, a directory of files or a hub dataset, in the shapes of `ChatFiles`.

    Raises:
        DataError: nothing can be read, or a row is of no such shape.
    """
    found = from_chat(read_source(source, split), ignore=["*"]).pairs  # what they are, the key has said
    if not found:
        raise DataError(f"{source}: has no reply to a user's turn; give examples that have one.")
    return found


def from_chat(rows: list[Located], ignore: Collection[str] = ()) -> Preferences:
    """
    Raises:
        DataError: a row is of neither shape, a message is not one, or a column looks like a label; the text names the row.
    """
    result = Preferences(rows=len(rows))
    for where, row in rows:
        labels = [] if "*" in ignore else [name for name in row if name not in ignore and is_like_a_label(name, row[name])]
        if labels:
            raise DataError(
                f"{where}: the column {labels[0]} may say whether this reply is one to learn from, and all replies are; take "
                f"the rows out that are not meant, and say that it does not count: data.ignore=[{labels[0]}]."
            )
        turns = _conversation(row, where)
        replies = list(_replies(turns, where))
        if not replies:
            result.dropped["no reply to a user turn"] += 1
        for reply in replies:
            result.add(reply)
    return result


def _conversation(row: Row, where: str) -> tuple[Message, ...]:
    column = next((name for name in CONVERSATIONS if row.get(name)), None)
    if column is not None:
        messages = joined(messages_of(row[column], "user", where, column))
        return (*system_of(row, where, messages), *messages)
    request = request_of(row, where)
    reply = the_one(row, REPLIES, where)
    if request is None or reply is None:
        raise DataError(
            f"{where}: format chat needs messages or conversations, or a reply ({', '.join(REPLIES)}) to an instruction, a "
            f"prompt or a question; it has {', '.join(map(str, row)) or 'none'}. Rename them, or choose another data.format."
        )
    return (*request, {"role": "assistant", "content": reply_of(row[reply], where, reply)})


def _replies(turns: tuple[Message, ...], where: str) -> Iterator[Preference]:
    """Every reply to a user turn, with all that was said before it."""
    for place, turn in enumerate(turns):
        if turn["role"] == "assistant" and place and turns[place - 1]["role"] == "user":
            yield Preference(turns[:place], turn["content"], where=where)
