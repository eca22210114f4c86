"""Replies that are desirable or undesirable, each on its own: unpaired preference data in the one form that training uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import DataError
from trainer.items import Message


@dataclass(frozen=True)
class Reply:
    """prompt: the conversation up to and including the last user turn. completion: a reply to it. where: the file and row it
    came from."""

    prompt: tuple[Message, ...]
    completion: str
    desirable: bool
    where: str = field(default="", compare=False)


@dataclass
class Replies:
    """What was read: the usable replies, how many rows there were, and why the others were left out."""

    replies: list[Reply] = field(default_factory=list)
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def usable(self) -> list[Reply]:
        return self.replies

    def add(self, reply: Reply) -> None:
        if not reply.completion.strip():
            self.dropped["empty completion"] += 1
        else:
            self.replies.append(reply)

    @property
    def desirable(self) -> int:
        return sum(reply.desirable for reply in self.replies)

    def require_both_sides(self) -> None:
        """Raises DataError where no reply is left, or all that are left have the same label."""
        if not self.replies:
            raise DataError(f"data: no usable reply among {self.rows} rows; left out: {dict(self.dropped)}.")
        if self.desirable in (0, len(self.replies)):
            there, lacking = ("desirable", "undesirable") if self.desirable else ("undesirable", "desirable")
            raise DataError(
                f"data: all {len(self.replies)} usable replies are {there}, and one learns from the difference; add rows that "
                f"are {lacking} (label: {str(not self.desirable).lower()}). Left out: {dict(self.dropped)}."
            )


def kto_examples(replies: Iterable[Reply]) -> Iterator[dict[str, Any]]:
    """Every reply, in TRL's conversational unpaired preference form."""
    for reply in replies:
        completion = [{"role": "assistant", "content": reply.completion}]
        yield {"prompt": list(reply.prompt), "completion": completion, "label": reply.desirable}
