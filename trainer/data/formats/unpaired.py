"""TRL's unpaired preference format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.config.datasets import dataset_place
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.files import Located, require_columns, sample
from trainer.data.formats.replies import UnpairedData
from trainer.data.hub import read_source
from trainer.data.messages import reply_of, request_of
from trainer.data.replies import Replies, Reply
from trainer.errors import DataError

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

COLUMNS = ("prompt", "completion", "label")
LABELS = {"true": True, "1": True, "false": False, "0": False}


@section
class UnpairedFiles(UnpairedData):
    """Columns prompt and completion, each text or chat messages, and label: true (desirable), false, 1 or 0. A system prompt or
    an input that stands beside the prompt belongs to it.

    path: a local file (jsonl, json, csv, parquet, also .gz) or directory, or a hub dataset name.
    split: which split of a directory that holds several, or of a hub dataset; several joined by `+`.
    """

    format: Literal["unpaired"]
    path: str | None = None
    split: str = "train"

    def read(self, seed: int) -> Replies:
        return from_unpaired(sample(read_source(self.path or "", self.split), self.limit))

    @property
    def is_here(self) -> bool:
        place = None if self.path is None else dataset_place(self.path)
        return place is not None and place.path.exists()

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if self.path is None:
            return [f"{key}.path: {key}.format={self.format} needs a file, a directory or a hub name."]
        missing = missing_path(f"{key}.path", self.path, base_dir)
        return missing or unreadable(f"{key}.path", self.path, self, lambda: self.read(config.seed))

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path}


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
