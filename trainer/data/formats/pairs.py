"""Data sections that give replies to imitate, and preference pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from trainer.config.section import section
from trainer.data.files import Located
from trainer.data.formats.rows import RowData, RowFiles
from trainer.data.preferences import Preferences

T = TypeVar("T")


@section
class DemonstrationData(RowData):
    """Prompts with a reply to imitate. Preference pairs are some as well: their chosen replies are."""

    @abstractmethod
    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        """The pairs; where there is one reply to a prompt, it is the chosen one. Otherwise as `RowData.read`."""

    def epoch(self, examples: Mapping[str, Sequence[T]], seed: int) -> list[T]:
        """The examples of one epoch, of those that each part has."""
        return [example for of_part in examples.values() for example in of_part]

    def told(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """What there is to say of an epoch, for the report of the data stage, besides how many examples it has.

        Args:
            sizes: part -> the examples that it has.
        """
        return {}


@section
class PreferenceData(DemonstrationData):
    """Preference pairs: every one has a rejected reply as well."""


@section
class DemonstrationFiles(RowFiles, DemonstrationData):
    """Replies to imitate, from files."""

    @abstractmethod
    def parse(self, rows: list[Located]) -> Preferences:
        """The pairs in rows of this format. Otherwise as `RowFiles.parse`."""


@section
class PreferenceFiles(DemonstrationFiles, PreferenceData):
    """Preference pairs from files."""
