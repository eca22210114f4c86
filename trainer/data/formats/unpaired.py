"""TRL's unpaired preference format."""

from __future__ import annotations

from typing import Any, Literal

from trainer.config.section import section
from trainer.data.files import Located, require_columns
from trainer.data.formats.replies import UnpairedData
from trainer.data.formats.rows import RowFiles
from trainer.data.messages import reply_of, request_of
from trainer.data.replies import Replies, Reply
from trainer.errors import DataError

COLUMNS = ("prompt", "completion", "label")
LABELS = {"true": True, "1": True, "false": False, "0": False}


@section
class UnpairedFiles(RowFiles, UnpairedData):
    """Columns prompt and completion, each text or chat messages, and label: true (desirable), false, 1 or 0. A system prompt or
    an input that stands beside the prompt belongs to it."""

    format: Literal["unpaired"]

    def parse(self, rows: list[Located]) -> Replies:
        return from_unpaired(rows)


def from_unpaired(rows: list[Located]) -> Replies:
    """Rows with the columns `prompt`, `completion` and `label`.

    Raises:
        DataError: a column is missing, or a cell is not what it should be; the text names the row.
    """
    require_columns(rows, COLUMNS, "unpaired")
    result = Replies(rows=len(rows))
    for where, row in rows:
        prompt, completion = request_of(row, where), reply_of(row["completion"], where, "completion")
        if prompt is None:
            raise DataError(f"{where}: prompt is empty; remove the row.")
        result.add(Reply(prompt, completion, _desirable(row["label"], where), where))
    return result


def _desirable(value: Any, where: str) -> bool:
    word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else None  # in CSV every cell is text
    if word not in LABELS:
        raise DataError(f"{where}: label is {value!r}; it must be true or 1 (desirable), or false or 0.")
    return LABELS[word]
