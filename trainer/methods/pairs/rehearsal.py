"""Ordinary instructions that the base answers before it is trained, and what it has answered."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.columns import InstructionColumns
from trainer.data.files import read_rows
from trainer.data.formats.chat import from_chat
from trainer.data.instructions import draw, read_instructions
from trainer.data.preferences import Preferences

ANSWERS = "answers"  # the stage that asks the base
ANSWERS_FILE = "answers.jsonl"  # what it leaves: prompt and response


@section
class RehearsalSection:
    """Instructions that the base answers itself before it is trained. Its answers are imitated beside the rows of `data`, so
    that it goes on doing with such instructions what it does. They are greedy, and as long as `sft.max_length` lets SFT read.

    path: a local file or directory (jsonl, json, csv, parquet, also .gz) or a hub dataset name, with a column instruction,
        prompt, goal or the like. columns: what its columns are, where the usual names do not say it.
    split: of a directory that holds several, or of a hub dataset.
    limit: how many are drawn.
    """

    path: str
    split: str = "train"
    columns: InstructionColumns | None = None
    limit: int = Field(200, gt=0)

    def read(self, seed: int) -> list[str]:
        """
        Raises:
            DataError: the instructions cannot be read, or are too few.
        """
        key = "method.rehearsal.columns"
        found = read_instructions(self.path, self.split, harmful=False, columns=self.columns, key=key)
        return draw(found, [self.limit], seed)[0]

    def problems(self, seed: int, base_dir: Path) -> list[str]:
        key = "method.rehearsal.path"
        return missing_path(key, self.path, base_dir) or unreadable(key, self.path, self, lambda: self.read(seed))


def read_answers(run_dir: Path) -> Preferences:
    """What the base has answered in this run.

    Raises:
        DataError: the file is damaged.
    """
    return from_chat(read_rows(run_dir / ANSWERS / ANSWERS_FILE))
