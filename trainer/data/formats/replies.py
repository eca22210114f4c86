"""Data sections that give unpaired replies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from trainer.config.section import section
from trainer.data.formats.rows import RowData
from trainer.data.replies import Replies


@section
class UnpairedData(RowData):
    """Replies, each desirable or undesirable on its own."""

    @abstractmethod
    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Replies:
        """The replies. Otherwise as `RowData.read`."""
