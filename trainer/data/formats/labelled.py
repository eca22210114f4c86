"""Labelled texts under the usual names of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from trainer.config.section import section
from trainer.data.columns import LabelledColumns, cell
from trainer.data.files import Row
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, text_or_empty, worst
from trainer.data.messages import CONTEXTS, NO_CONTEXT
from trainer.errors import DataError

# The usual names in the `labelled` format; case does not count. The first that a row has is read.
PROMPTS = ("prompt", "text", "instruction", "question")
RESPONSES = ("response", "completion", "answer")
PROMPT_LABELS = ("prompt_label", "prompt_harm_label")
RESPONSE_LABELS = ("response_label", "response_harm_label")
LABELS = ("label", "unsafe", "is_unsafe", "harmful", "toxic")  # of the response where there is one, else of the prompt
SAFE_LABELS = ("is_safe", "safe")  # the same, the other way round


@section
class AnyLabelledData(LabelledFiles):
    """Any file with a text and a label under one of the usual names, or under those that columns gives.

    columns: what the columns are; see `LabelledColumns`.
    """

    format: Literal["labelled"]
    columns: LabelledColumns = Field(default_factory=LabelledColumns)

    def parse(self, where: str, row: Row) -> Labelled | str:
        return from_labelled(where, row, self.columns)


def from_labelled(where: str, row: Row, columns: LabelledColumns | None = None) -> Labelled | str:
    columns = columns or LabelledColumns()
    names = {str(name).lower(): str(name) for name in row}
    named = any((columns.prompt_label, columns.response_label, columns.label, columns.safe))

    def usual(accepted: Sequence[str]) -> str | None:
        return next((names[name] for name in accepted if name in names), None)

    def label(given: str | list[str] | None, accepted: Sequence[str], safe: bool = False) -> int | None:
        """Of the columns that are named, where any label is; else of the first with a usual name."""
        several = ([given] if isinstance(given, str) else given or []) if named else [usual(accepted)]
        cells = [(name, cell(row, name, where)) for name in several if name is not None]
        return worst(label_of(value, where, name, safe=safe, threshold=columns.threshold) for name, value in cells)

    prompt_column, response_column = columns.prompt or usual(PROMPTS), columns.response or usual(RESPONSES)
    if prompt_column is None or not (named or usual(PROMPT_LABELS + RESPONSE_LABELS + LABELS + SAFE_LABELS)):
        raise DataError(
            f"{where}: has no {'label' if prompt_column else 'text'}: its columns are {', '.join(map(str, row)) or 'none'}. "
            f"Name the text one of {', '.join(PROMPTS)}, a response one of {', '.join(RESPONSES)}, and the label one of "
            f"{', '.join(PROMPT_LABELS + RESPONSE_LABELS + LABELS)} (1 = to be flagged), or {' or '.join(SAFE_LABELS)}; or say "
            "what they are with data.columns."
        )
    context = columns.context or usual(CONTEXTS)
    prompt = "\n\n".join(
        text
        for name in (prompt_column, context)
        if name is not None and (text := text_or_empty(cell(row, name, where), where, name)) and text not in NO_CONTEXT
    )
    response = "" if response_column is None else text_or_empty(cell(row, response_column, where), where, response_column)
    prompt_label, response_label = label(columns.prompt_label, PROMPT_LABELS), label(columns.response_label, RESPONSE_LABELS)
    one_label = label(columns.label, LABELS)
    if one_label is None:
        one_label = label(columns.safe, SAFE_LABELS, safe=True)
    if prompt_label is None and response_label is None:
        prompt_label, response_label = (None, one_label) if response else (one_label, None)
    return labelled(prompt, response, prompt_label, response_label)
