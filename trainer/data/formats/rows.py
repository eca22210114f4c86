"""What data sections have in common whose rows are prompts with replies, however many and of whatever kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.datasets import dataset_place
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.files import Located, sample
from trainer.data.holdout import hold_out
from trainer.data.hub import read_source

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

ALL = "all"  # the only part of data that is no mixture


@section
class RowData(DataSection):
    """Prompts with replies.

    limit: use only so many rows: in the sandbox the first, of files one from each of as many equal stretches, because
        published files are often sorted; null is all.
    max_prompt_length: the longest prompt to train on, in tokens; null is all that `max_length` leaves room for.
    overlong: what to do with a row whose prompt is longer.
    validation: rows that no stage trains on, by which its training is watched: a share of the prompts (0.05), a number of them
        (200), or a file, directory or hub dataset of this format. Rows of one prompt are on one side; a training row whose
        prompt is in that file is left out. Null holds out nothing.
    validation_split: which split of that directory or hub dataset.
    """

    limit: int | None = Field(None, gt=0)
    max_prompt_length: int | None = Field(None, gt=0)
    overlong: Literal["error", "drop"] = "error"
    validation: float | int | str | None = None
    validation_split: str = "validation"

    @abstractmethod
    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Any:
        """The rows.

        Args:
            seed: of rows that are made, not read.
            on_prompt: called after each prompt for which rows are made, for a progress bar.

        Raises:
            DataError: a file cannot be read, has no rows, lacks a column, or a row is not what the format says.
        """

    def read_validation(self) -> Any:
        """The rows of the file that `validation` names.

        Raises:
            DataError: as `read`.
        """
        raise NotImplementedError

    @property
    def is_here(self) -> bool:
        """Whether the rows can be had without a network."""
        return True

    @property
    def shares(self) -> Mapping[str, float]:
        """The parts of a mixture, and their shares of an epoch."""
        return {ALL: 1.0}

    @property
    def held_out(self) -> Mapping[str, float]:
        """As `shares`; empty where no row is held out."""
        return {} if self.validation is None else self.shares

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        return self._validation_problems(key)

    def _validation_problems(self, key: str) -> list[str]:
        given = self.validation
        if isinstance(given, str):
            return [f"{key}.validation: {self.format} names no file; give a share of its prompts, or a number of them."]
        if given is None and self.validation_split != "validation":
            return [f"{key}.validation_split: there is no {key}.validation; set it, or remove this key."]
        if isinstance(given, bool) or (given is not None and (given <= 0 or (isinstance(given, float) and not given < 1))):
            return [f"{key}.validation: must be a share between 0 and 1, a whole number, or a file (got {given!r})."]
        return []


@section
class RowFiles(RowData):
    """Prompts with replies, from files.

    path: a local file (jsonl, json, csv, parquet, also .gz) or directory, or a hub dataset name.
    split: which split of a directory that holds several, or of a hub dataset; several joined by `+`.
    """

    path: str | None = None
    split: str = "train"

    @abstractmethod
    def parse(self, rows: list[Located]) -> Any:
        """What rows of this format say.

        Raises:
            DataError: a column is missing, or a row is not what the format says.
        """

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Any:
        return self.parse(sample(read_source(self.path or "", self.split), self.limit))

    def read_validation(self) -> Any:
        assert isinstance(self.validation, str)
        return self.parse(read_source(self.validation, self.validation_split))

    @property
    def is_here(self) -> bool:
        place = None if self.path is None else dataset_place(self.path)
        return place is not None and place.path.exists()

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if self.path is None:
            return [f"{key}.path: {key}.format={self.format} needs a file, a directory or a hub name."]
        problems = self._validation_problems(key)
        read = self.read if problems else self._read_and_hold_out
        missing = missing_path(f"{key}.path", self.path, base_dir)
        problems += missing or unreadable(f"{key}.path", self.path, self, partial(read, config.seed))
        if isinstance(self.validation, str):
            missing = missing_path(f"{key}.validation", self.validation, base_dir)
            problems += missing or unreadable(f"{key}.validation", self.validation, self, self.read_validation)
        return problems

    def _validation_problems(self, key: str) -> list[str]:
        return [] if isinstance(self.validation, str) else super()._validation_problems(key)

    def _read_and_hold_out(self, seed: int) -> None:
        """As the data stage will."""
        found = self.read(seed)
        if isinstance(self.validation, (int, float)) and found.usable:
            hold_out(found.usable, self.validation, seed)

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path} | ({"validation": self.validation} if isinstance(self.validation, str) else {})
