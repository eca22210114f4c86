"""Preference pairs in the shapes that most are published in."""

from __future__ import annotations

from typing import Any, Literal

from trainer.config.section import section
from trainer.data.files import Located, Row, require_columns
from trainer.data.formats.pairs import PreferenceFiles
from trainer.data.messages import ROLES, joined, messages_of, reply_of, request_of, system_of
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError
from trainer.items import Message


@section
class ExplicitData(PreferenceFiles):
    """Columns chosen and rejected: two replies, text or a chat message, to what stands in prompt, instruction or question, with
    input and system beside it; or two whole conversations that differ in their last turn, with or without the prompt."""

    format: Literal["preference"]

    def parse(self, rows: list[Located]) -> Preferences:
        return from_preference(rows)


def from_preference(rows: list[Located]) -> Preferences:
    """TRL's preference format, with an explicit or an implicit prompt, and UltraFeedback's, which has both."""
    require_columns(rows, ("chosen", "rejected"), "preference")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        if _is_conversation(row["chosen"]) or _is_conversation(row["rejected"]):
            pair = _of_conversations(row, where)
        else:
            pair = _of_replies(row, where)
        if isinstance(pair, str):
            result.dropped[pair] += 1
        else:
            result.add(pair)
    return result


def _is_conversation(value: Any) -> bool:
    """Whether it holds more than the assistant's reply."""
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(message, dict) for message in value):
        return False
    return any(ROLES.get(message.get("role", message.get("from"))) != "assistant" for message in value)


def _of_replies(row: Row, where: str) -> Preference:
    chosen, rejected = (reply_of(row[column], where, column) for column in ("chosen", "rejected"))
    prompt = _before(row, where)
    if prompt is None:
        raise DataError(
            f"{where}: format preference needs column prompt where chosen and rejected are replies; it has {', '.join(row)}. "
            "Rename one of them, or choose the data.format that fits."
        )
    return Preference(prompt, chosen, rejected, where)


def _before(row: Row, where: str) -> tuple[Message, ...] | None:
    """What is replied to: the conversation in a column of its own, as LLaMA-Factory has it, or the columns of a request."""
    if row.get("conversations"):
        messages = joined(messages_of(row["conversations"], "user", where, "conversations"))
        return (*system_of(row, where, messages), *messages)
    return request_of(row, where)


def _of_conversations(row: Row, where: str) -> Preference | str:
    """The pair, or why it is left out."""
    chosen, rejected = (joined(messages_of(row[column], "assistant", where, column)) for column in ("chosen", "rejected"))
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return "last turn is not the assistant's"
    if chosen[:-1] != rejected[:-1]:
        return "chosen and rejected answer different prompts"
    before = (*system_of(row, where, chosen), *chosen[:-1])
    if not before or before[-1]["role"] != "user":
        return "the reply is not to a user turn"
    asked = [message["content"].strip() for message in before if message["role"] == "user"]
    prompt = request_of({"prompt": row.get("prompt")}, where)
    if prompt is not None and prompt[-1]["content"].strip() not in asked:
        return "the prompt is not in the conversation"
    return Preference(before, chosen[-1]["content"], rejected[-1]["content"], where)
