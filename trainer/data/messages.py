"""Prompts and replies as data files have them: text, chat messages, or a row of columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.data.files import Row, text_of
from trainer.errors import DataError
from trainer.items import Message

# As OpenAI calls them, and as sharegpt does.
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
REQUESTS = ("prompt", "instruction", "question")  # columns of one turn of the user
CONTEXTS = ("input", "context")  # what stands beside it
SYSTEMS = ("system", "system_prompt")
_CALLS = ("tool_calls", "function_call")
NO_CONTEXT = ("", "<noinput>")  # what alpaca says in place of an empty one


def prompt_of(value: Any, where: str, column: str = "prompt") -> tuple[Message, ...]:
    """A conversation whose last turn is the user's.

    Args:
        value: text, which is one turn of the user, or messages.

    Raises:
        DataError: it is neither, or does not end with a user message.
    """
    messages = messages_of(value, "user", where, column)
    if messages[-1]["role"] != "user":
        raise DataError(f"{where}: {column} must end with a user message, ends with one of the {messages[-1]['role']}.")
    return messages


def reply_of(value: Any, where: str, column: str) -> str:
    """The text of a reply.

    Args:
        value: text, an assistant message, or a list of one.

    Raises:
        DataError: it is none of these.
    """
    messages = messages_of([value] if isinstance(value, dict) else value, "assistant", where, column)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise DataError(f"{where}: {column} must be text or one assistant message.")
    return messages[0]["content"]


def messages_of(value: Any, role: str, where: str, column: str) -> tuple[Message, ...]:
    """Chat messages, as OpenAI writes them (role, content) or as sharegpt does (from, value); text is one of this role.

    Raises:
        DataError: it is neither, or a message is not one of text by the system, the user or the assistant.
    """
    if isinstance(value, str):
        return ({"role": role, "content": value},)
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) for message in value):
        raise DataError(f"{where}: {column} must be text or a list of {{role, content}} messages.")
    return tuple(_message(message, f"{where}: {column}: message {number}") for number, message in enumerate(value, start=1))


def _message(message: Row, where: str) -> Message:
    role_column, text_column = ("role", "content") if "role" in message else ("from", "value")
    role, content = ROLES.get(str(message.get(role_column)).lower()), message.get(text_column)
    if role is None:
        raise DataError(f"{where}: {role_column} is {message.get(role_column)!r}; known: {', '.join(ROLES)}.")
    if called := next((name for name in _CALLS if message.get(name)), None):
        raise DataError(f"{where}: {called}: calls of tools are not read; take the row out.")
    if message.get("weight") not in (None, 1):
        raise DataError(
            f"{where}: weight is {message['weight']!r}, and every reply is learned from here; cut the conversation before it, "
            "or take the row out."
        )
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)  # OpenAI's parts, where all are text
    if not isinstance(content, str):
        raise DataError(f"{where}: {text_column} must be text, is {type(content).__name__}.")
    return {"role": role, "content": content}


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same messages, those of one speaker in a row as one."""
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1] = {**message, "content": f"{turns[-1]['content']}\n\n{message['content']}".strip()}
        else:
            turns.append(message)
    return tuple(turns)


def the_one(row: Row, names: Iterable[str], where: str) -> str | None:
    """Which of these columns has something in it; None where none has.

    Raises:
        DataError: two have, and it is not the same.
    """
    there = [name for name in names if row.get(name) not in (None, "", [])]
    if others := [name for name in there[1:] if row[name] != row[there[0]]]:
        raise DataError(
            f"{where}: {there[0]} and {others[0]} are both there and differ, and only one of them can be meant; take the other "
            "column out."
        )
    return there[0] if there else next((name for name in names if row.get(name) is not None), None)


def request_of(row: Row, where: str) -> tuple[Message, ...] | None:
    """The conversation up to the user's turn in the column `prompt`, `instruction` or `question`, with the system prompt and
    the input that stand beside it; None where there is none of them.

    Raises:
        DataError: it is neither text nor messages, or what stands beside it cannot be put before or behind it.
    """
    column = the_one(row, REQUESTS, where)
    if column is None:
        return None
    messages = prompt_of(row[column], where, column)
    if row.get("history"):
        raise DataError(f"{where}: history: earlier turns in a column of their own are not read; write them as messages.")
    beside = the_one(row, CONTEXTS, where)
    if beside is not None and (context := text_of(row, beside, where)).strip().lower() not in NO_CONTEXT:
        parts = [part for part in (messages[-1]["content"], context) if part]
        messages = (*messages[:-1], {"role": "user", "content": "\n\n".join(parts)})
    return (*system_of(row, where, messages), *messages)


def system_of(row: Row, where: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system prompt in a column of its own, if there is one.

    Raises:
        DataError: it is no text, or the messages have one of their own.
    """
    column = the_one(row, SYSTEMS, where)
    if column is None or not row[column]:
        return ()
    if messages[0]["role"] == "system":
        raise DataError(f"{where}: {column}: the messages beside it have a system prompt of their own; remove one of the two.")
    return ({"role": "system", "content": text_of(row, column, where)},)
