"""Anthropic-HH style: transcripts with Human: and Assistant: turns."""

from __future__ import annotations

import re
from typing import Literal

from trainer.config.section import section
from trainer.data.files import Located, require_columns, text_of
from trainer.data.formats.pairs import PreferenceFiles
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError
from trainer.items import Message

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]*")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@section
class TranscriptData(PreferenceFiles):
    """Columns chosen and rejected: two transcripts that differ in the last assistant turn."""

    format: Literal["transcripts"]

    def parse(self, rows: list[Located]) -> Preferences:
        return from_transcripts(rows)


def parse_transcript(text: str) -> tuple[Message, ...]:
    """`\\n\\nHuman: ...\\n\\nAssistant: ...` as chat messages; turns of one speaker in a row are joined.

    Raises:
        ValueError: there is no turn, or text stands before the first one.
    """
    head, *parts = _TURN.split(text)
    if head.strip() or not parts:
        raise ValueError("does not start with a Human: or Assistant: turn")
    messages: list[Message] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        role = _ROLES[speaker]
        if messages and messages[-1]["role"] == role:
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n\n{said.strip()}".strip()}
        else:
            messages.append({"role": role, "content": said.strip()})
    return tuple(messages)


def from_transcripts(rows: list[Located]) -> Preferences:
    """Anthropic-HH style: two transcripts that differ in the last assistant turn."""
    require_columns(rows, ("chosen", "rejected"), "transcripts")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        try:
            chosen, rejected = (parse_transcript(text_of(row, column, where)) for column in ("chosen", "rejected"))
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{where}: transcript {error}.") from None
        if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
            result.dropped["last turn is not the assistant's"] += 1
        elif chosen[:-1] != rejected[:-1]:
            result.dropped["chosen and rejected answer different prompts"] += 1
        elif not chosen[:-1] or chosen[0]["role"] != "user":
            result.dropped["does not start with a user turn"] += 1
        else:
            result.add(Preference(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"], where))
    return result
