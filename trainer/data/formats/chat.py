"""Conversations to imitate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from trainer.config.section import section
from trainer.data.files import Located, Row
from trainer.data.formats.pairs import DemonstrationFiles
from trainer.data.messages import joined, messages_of, reply_of, request_of, system_of
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError
from trainer.items import Message

CONVERSATIONS = ("messages", "conversations", "conversation")
REPLIES = ("output", "response", "completion", "answer")


@section
class ChatFiles(DemonstrationFiles):
    """Replies to imitate: those of a conversation in messages (OpenAI) or conversations (sharegpt), each with all that was said
    before it; or one in output, response, completion or answer to what stands in instruction, prompt or question, with input
    and system beside it (alpaca)."""

    format: Literal["chat"]

    def parse(self, rows: list[Located]) -> Preferences:
        return from_chat(rows)


def from_chat(rows: list[Located]) -> Preferences:
    """
    Raises:
        DataError: a row is of neither shape, or a message is not one; the text names the row.
    """
    result = Preferences(rows=len(rows))
    for where, row in rows:
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
    reply = next((name for name in REPLIES if row.get(name) is not None), None)
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
