"""BeaverTails."""

from __future__ import annotations

from typing import Literal

from trainer.config.section import section
from trainer.data.files import Row, require_columns
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, text_or_empty


@section
class BeavertailsData(LabelledFiles):
    """`prompt`, `response`, `is_safe`. Labels the response. Annotators may disagree about one response: then it is there with
    both labels."""

    format: Literal["beavertails"]

    @property
    def labels_prompts(self) -> bool:
        return False

    def parse(self, where: str, row: Row) -> Labelled | str:
        return from_beavertails(where, row)


def from_beavertails(where: str, row: Row) -> Labelled | str:
    require_columns([(where, row)], ("prompt", "response", "is_safe"), "beavertails")
    prompt, response = (text_or_empty(row[column], where, column) for column in ("prompt", "response"))
    return labelled(prompt, response, None, label_of(row["is_safe"], where, "is_safe", safe=True))
