"""Data sections that give replies to imitate, and preference pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.datasets import dataset_place
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.files import Located, sample
from trainer.data.hub import read_source
from trainer.data.preferences import Preferences

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class DemonstrationData(DataSection):
    """Prompts with a reply to imitate. Preference pairs are some as well: their chosen replies are.

    limit: use only so many rows: in the sandbox the first, of files one from each of as many equal stretches, because
        published files are often sorted; null is all.
    max_prompt_length: the longest prompt to train on, in tokens; null is all that `max_length` leaves room for.
    overlong: what to do with a row whose prompt is longer.
    """

    limit: int | None = Field(None, gt=0)
    max_prompt_length: int | None = Field(None, gt=0)
    overlong: Literal["error", "drop"] = "error"

    @abstractmethod
    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        """The pairs; where there is one reply to a prompt, it is the chosen one.

        Args:
            seed: of pairs that are made, not read.
            on_prompt: called after each prompt for which pairs are made, for a progress bar.

        Raises:
            DataError: a file cannot be read, has no rows, lacks a column, or a row is not what the format says.
        """

    @property
    def is_here(self) -> bool:
        """Whether the pairs can be had without a network."""
        return True


@section
class PreferenceData(DemonstrationData):
    """Preference pairs: every one has a rejected reply as well."""


@section
class DemonstrationFiles(DemonstrationData):
    """Replies to imitate, from files.

    path: a local file (jsonl, json, csv, parquet, also .gz) or directory, or a hub dataset name.
    split: which split of a directory that holds several, or of a hub dataset; several joined by `+`.
    """

    path: str | None = None
    split: str = "train"

    @abstractmethod
    def parse(self, rows: list[Located]) -> Preferences:
        """The pairs in rows of this format.

        Raises:
            DataError: a column is missing, or a row is not what the format says.
        """

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        return self.parse(sample(read_source(self.path or "", self.split), self.limit))

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


@section
class PreferenceFiles(DemonstrationFiles, PreferenceData):
    """Preference pairs from files."""
