"""Data sections that give unpaired replies."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.section import section
from trainer.data.replies import Replies


@section
class UnpairedData(DataSection):
    """Replies, each desirable or undesirable on its own.

    limit: use only so many rows: in the sandbox the first, of files one from each of as many equal stretches, because
        published files are often sorted; null is all.
    max_prompt_length: the longest prompt to train on, in tokens; null is all that `max_length` leaves room for.
    overlong: what to do with a row whose prompt is longer.
    """

    limit: int | None = Field(None, gt=0)
    max_prompt_length: int | None = Field(None, gt=0)
    overlong: Literal["error", "drop"] = "error"

    @abstractmethod
    def read(self, seed: int) -> Replies:
        """The replies.

        Args:
            seed: of replies that are made, not read.

        Raises:
            DataError: a file cannot be read, has no rows, lacks a column, or a row is not what the format says.
        """

    @property
    def is_here(self) -> bool:
        """Whether the replies can be had without a network."""
        return True
