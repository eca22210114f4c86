"""Labelled texts under the usual names of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from trainer.config.section import section
from trainer.data.files import Row
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, opposite, text_or_empty
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
    """Any file with a text and a label under one of the names below."""

    format: Literal["labelled"]

    def parse(self, where: str, row: Row) -> Labelled | str:
        return from_labelled(where, row)


def from_labelled(where: str, row: Row) -> Labelled | str:
    names = {str(name).lower(): name for name in row}

    def column(accepted: Sequence[str]) -> str | None:
        return next((names[name] for name in accepted if name in names), None)

    def label(accepted: Sequence[str]) -> int | None:
        name = column(accepted)
        return None if name is None else label_of(row[name], where, name)

    prompt_column, response_column = column(PROMPTS), column(RESPONSES)
    if prompt_column is None or column(PROMPT_LABELS + RESPONSE_LABELS + LABELS + SAFE_LABELS) is None:
        raise DataError(
            f"{where}: has no {'label' if prompt_column else 'text'}: its columns are {', '.join(map(str, row)) or 'none'}. "
            f"Name the text one of {', '.join(PROMPTS)}, a response one of {', '.join(RESPONSES)}, and the label one of "
            f"{', '.join(PROMPT_LABELS + RESPONSE_LABELS + LABELS)} (1 = to be flagged), or {' or '.join(SAFE_LABELS)}."
        )
    response = "" if response_column is None else text_or_empty(row[response_column], where, response_column)
    prompt_label, response_label, one_label = label(PROMPT_LABELS), label(RESPONSE_LABELS), label(LABELS)
    if one_label is None:
        one_label = opposite(label(SAFE_LABELS))
    if prompt_label is None and response_label is None:
        prompt_label, response_label = (None, one_label) if response else (one_label, None)
    return labelled(text_or_empty(row[prompt_column], where, prompt_column), response, prompt_label, response_label)
