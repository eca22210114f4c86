"""SummEdits: documents and summaries, consistent or not."""

from __future__ import annotations

from typing import Literal

from trainer.config.section import section
from trainer.data.files import Row, require_columns
from trainer.data.formats.labels import LabelledFiles
from trainer.data.labelled import Labelled, label_of, labelled, text_or_empty


@section
class SummeditsData(LabelledFiles):
    """`doc`, `summary`, `label` 1 = consistent. Labels the response; an inconsistent summary is what is flagged, so a row of
    theirs with label 0 is one of ours with 1."""

    format: Literal["summedits"]

    @property
    def labels_prompts(self) -> bool:
        return False

    def parse(self, where: str, row: Row) -> Labelled | str:
        return from_summedits(where, row)


def from_summedits(where: str, row: Row) -> Labelled | str:
    require_columns([(where, row)], ("doc", "summary", "label"), "summedits")
    doc, summary = (text_or_empty(row[column], where, column) for column in ("doc", "summary"))
    return labelled(doc, summary, None, label_of(row["label"], where, "label", safe=True))
