"""Rows that are held out of training, to watch it by: whole prompts, so that nothing that is asked stands on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from trainer.errors import DataError
from trainer.items import Message


class Prompted(Protocol):
    """A row with a prompt."""

    @property
    def prompt(self) -> tuple[Message, ...]: ...


R = TypeVar("R", bound=Prompted)


def asked(prompt: Sequence[Message]) -> str:
    """What the user says first, less its case and its white space. Rows in which it is the same belong together: the pairs of a
    prompt, also under several system prompts, and the replies of one conversation."""
    said = next((message["content"] for message in prompt if message["role"] == "user"), prompt[0]["content"])
    return " ".join(said.split()).casefold()


def hold_out(rows: Sequence[R], validation: float, seed: int) -> tuple[list[R], list[R]]:
    """The rows to train on, and those that are held out, each in their order.

    Which prompts are held out is drawn by hash: it depends on the seed and the prompts, not on their order, and rows that are
    added change it little.

    Args:
        validation: a share of the distinct prompts, below 1, or how many.

    Raises:
        DataError: none would be held out, or all.
    """
    prompts = {asked(row.prompt) for row in rows}
    wanted = round(validation * len(prompts)) if validation < 1 else int(validation)
    if not 0 < wanted < len(prompts):
        raise DataError(
            f"validation={validation:g} holds out {wanted} of {len(prompts)} distinct prompts; there must be some to train on "
            "and some to hold out."
        )
    held = set(sorted(prompts, key=lambda prompt: hashlib.sha256(f"{seed}\n{prompt}".encode()).digest())[:wanted])
    return [row for row in rows if asked(row.prompt) not in held], [row for row in rows if asked(row.prompt) in held]


def not_asked_in(rows: Iterable[R], others: Iterable[Prompted]) -> list[R]:
    """The rows whose prompt none of the others has."""
    prompts = {asked(other.prompt) for other in others}
    return [row for row in rows if asked(row.prompt) not in prompts]
