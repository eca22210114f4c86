"""Columns under the names that a config gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from trainer.config.section import section
from trainer.data.files import Row
from trainer.errors import DataError


@section
class InstructionColumns:
    """Columns of a file of instructions, where they are not found by their usual names. `a.b` is the entry b of an object a, or
    the b-th (from 0) of a list.

    text: the instruction. context: what it speaks of, such as alpaca's input.
    label: whether it is harmful: 0 or 1, true or false, or a word such as harmful or safe. safe: the same, the other way round.
        Rows of the other kind are left out.
    ignore: columns that look as if they changed what a row means, and do not; `*` is all.
    """

    text: str | None = None
    context: str | None = None
    label: str | None = None
    safe: str | None = None
    ignore: list[str] = Field(default_factory=list)

    def __post_init__(self) -> None:
        if self.label is not None and self.safe is not None:
            raise ValueError("name label or safe, not both")


@section
class LabelledColumns:
    """Columns of labelled texts, where they are not found by their usual names. `a.b` is the entry b of an object a, or the
    b-th (from 0) of a list.

    prompt, response: the texts. context: what the prompt speaks of, such as alpaca's input.
    prompt_label, response_label: their labels.
    label: the label of the response where there is one, else of the prompt. safe: the same, the other way round.
    threshold: where labels are numbers: from this on a text is flagged (in `safe`: it is not).

    A label is 0 or 1, true or false, a word such as unsafe or safe, or several of these in a list or an object, of which one
    is enough to flag a text; or a list with the names of what is wrong. Several columns, as [a, b], are several labels.
    """

    prompt: str | None = None
    context: str | None = None
    response: str | None = None
    prompt_label: str | list[str] | None = None
    response_label: str | list[str] | None = None
    label: str | list[str] | None = None
    safe: str | list[str] | None = None
    threshold: float | None = None


def cell(row: Row, column: str, where: str) -> Any:
    """What stands in a column that a config names, also inside objects and lists.

    Raises:
        DataError: there is no such column.
    """
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise DataError(f"{where}: has no column {column}; its columns are {', '.join(map(str, row)) or 'none'}.")
    return value
