"""Data sections that give labelled texts."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.paths import PLAIN_NAME, missing_path
from trainer.config.section import OneOf, section
from trainer.data.check import unreadable
from trainer.data.files import Row
from trainer.data.formats.pairs import PreferenceData
from trainer.data.labelled import Labelled, Parsed, read_labelled
from trainer.data.labelled import split as parts_of

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

HELD_OUT = "held_out"  # a test set
_HELD_OUT_SEED = 0
_TAKEN = ("train", "validation", HELD_OUT)  # names that no other test set may have


@section
class LabelledData(DataSection):
    """Prompts and responses with safety labels.

    train, validation: rows to train on, and to set the threshold by. A training row whose prompt is in a test set is left out.
    limit: read only so many rows: in the sandbox the first of each test set, of each file one from each of as many equal
        stretches; null is all.
    max_length: longer rows (in tokens, prompt and response, the chat template included) are left out.
    preferences: the pairs that an aligner is trained on, with the keys of a preference dataset.
    """

    train: int = Field(4000, gt=0)
    validation: int = Field(500, gt=0)
    limit: int | None = Field(None, gt=0)
    max_length: int = Field(1024, gt=0)
    preferences: Annotated[PreferenceData, OneOf("preferences")] | None = None

    @abstractmethod
    def read(self, seed: int) -> tuple[list[Labelled], dict[str, list[Labelled]]]:
        """Rows to train on and to validate with, and the test sets by name.

        Raises:
            DataError: a file cannot be read.
        """

    @property
    def labels_prompts(self) -> bool:
        """Whether its rows may have labels of their prompts."""
        return True

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        return [] if self.preferences is None else self.preferences.problems(f"{key}.preferences", config, base_dir)

    def reads(self) -> dict[str, str | None]:
        pairs = {} if self.preferences is None else self.preferences.reads()
        return {f"preferences.{name}": path for name, path in pairs.items()}


@section
class LabelledFiles(LabelledData):
    """Labelled texts from files.

    path: to train on: a local file or directory (jsonl, json, csv, parquet, also .gz) or a hub dataset name.
    tests: name -> the same, to test on.
    held_out: rows of `path` that are kept apart as the test set `held_out`, where none is published: the same for every seed,
        and all rows of a prompt together.
    split, test_split: of directories that hold several, and of hub datasets.
    """

    path: str | None = None
    tests: dict[str, str] = Field(default_factory=dict)
    held_out: int | None = Field(None, gt=0)
    split: str = "train"
    test_split: str = "test"

    @abstractmethod
    def parse(self, where: str, row: Row) -> Parsed:
        """What a row says, or why it is left out.

        Raises:
            DataError: it lacks a column, or a text or a label is not one.
        """

    def read(self, seed: int) -> tuple[list[Labelled], dict[str, list[Labelled]]]:
        assert self.path is not None  # checked when the config was loaded
        rows, held_out = self._read_path(self.path)
        return rows, held_out | {name: self._read(path, self.test_split) for name, path in self.tests.items()}

    def _read_path(self, path: str) -> tuple[list[Labelled], dict[str, list[Labelled]]]:
        """All its rows, and those of them that are held out."""
        rows = self._read(path, self.split)
        if self.held_out is None:
            return rows, {}
        return rows, {HELD_OUT: parts_of(rows, [self.held_out], _HELD_OUT_SEED)[0]}

    def _read(self, source: str, split: str) -> list[Labelled]:
        return read_labelled(source, self.parse, split, self.limit)

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        problems = []
        if self.path is None:
            problems.append(f"{key}.path: {key}.format={self.format} needs a file, a directory or a hub name.")
        else:
            missing = missing_path(f"{key}.path", self.path, base_dir)
            problems += missing or unreadable(f"{key}.path", self.path, self, partial(self._read_path, self.path))
        if not self.tests and self.held_out is None and config.evaluation is not None:
            problems.append(
                f"{key}.tests: there is nothing to evaluate on; set {key}.tests.NAME=FILE or {key}.held_out=ROWS, or "
                "evaluation=none."
            )
        for name, path in self.tests.items():
            if not PLAIN_NAME.match(name) or name in _TAKEN:
                problems.append(
                    f"{key}.tests.{name}: must be a plain name (letters, digits, _ and -), none of {', '.join(_TAKEN)}."
                )
            missing = missing_path(f"{key}.tests.{name}", path, base_dir)
            problems += missing or unreadable(f"{key}.tests.{name}", path, self, partial(self._read, path, self.test_split))
        return [*problems, *super().problems(key, config, base_dir)]

    def reads(self) -> dict[str, str | None]:
        tests: dict[str, str | None] = {f"tests.{name}": path for name, path in self.tests.items()}
        return {"path": self.path, **tests, **super().reads()}
