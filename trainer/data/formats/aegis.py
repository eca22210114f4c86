"""AEGIS 2.0."""

from __future__ import annotations

from typing import Literal

from trainer.config.section import section
from trainer.data.files import Row, require_columns
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, text_or_empty

REDACTED = "REDACTED"  # what AEGIS 2.0 says in place of a text that it may not give


@section
class AegisData(LabelledFiles):
    """`prompt`, `response`, and the labels of both as words. A redacted or missing response has no label."""

    format: Literal["aegis"]

    def parse(self, where: str, row: Row) -> Labelled | str:
        return from_aegis(where, row)


def from_aegis(where: str, row: Row) -> Labelled | str:
    require_columns([(where, row)], ("prompt", "response", "prompt_label", "response_label"), "aegis")
    prompt, response = (text_or_empty(row[column], where, column) for column in ("prompt", "response"))
    if prompt == REDACTED:
        return "redacted"
    labels = [label_of(row[column], where, column) for column in ("prompt_label", "response_label")]
    return labelled(prompt, "" if response == REDACTED else response, *labels)
