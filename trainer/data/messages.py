"""Prompts and replies as data files have them: text, or chat messages."""

from __future__ import annotations

from typing import Any

from trainer.errors import DataError
from trainer.items import Message

ROLES = ("system", "user", "assistant")


def prompt_of(value: Any, where: str, column: str = "prompt") -> tuple[Message, ...]:
    """A conversation whose last turn is the user's.

    Args:
        value: text, which is one turn of the user, or messages.

    Raises:
        DataError: it is neither, or does not end with a user message.
    """
    messages = _messages(value, "user", where, column)
    if messages[-1]["role"] != "user":
        raise DataError(f"{where}: {column} must end with a user message, ends with one of the {messages[-1]['role']}.")
    return messages


def reply_of(value: Any, where: str, column: str) -> str:
    """The text of a reply.

    Args:
        value: text, or a list of one assistant message.

    Raises:
        DataError: it is neither.
    """
    messages = _messages(value, "assistant", where, column)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise DataError(f"{where}: {column} must be text or one assistant message.")
    return messages[0]["content"]


def _messages(value: Any, role: str, where: str, column: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return ({"role": role, "content": value},)
    well_formed = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role") in ROLES for m in value
    )
    if not well_formed or not value:
        raise DataError(f"{where}: {column} must be text or a list of {{role, content}} messages.")
    return tuple({"role": m["role"], "content": m["content"]} for m in value)
