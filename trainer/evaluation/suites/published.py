"""Sets of prompts as they were published, each in a file of its own beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import looks_local, missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.columns import InstructionColumns
from trainer.data.files import Located
from trainer.data.hub import read_source
from trainer.data.instructions import instructions_in
from trainer.evaluation.columns import SAFETY
from trainer.evaluation.suites.prompts import PromptsEvaluation, items_of, some_of
from trainer.items import Item

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class PublishedPrompts(SuiteSection):
    """path: its hub name, or a file or a directory with a copy of it. prompts: how many are drawn; null is all.
    models, resamples: as of every suite.

    Class attributes:
        split: of a directory that holds several, and on the hub.
        subsets: of its hub dataset, where it is published in several.
        text: the column of the prompt, where it has no usual name; other columns do not count.
    """

    path: str = ""
    prompts: int | None = Field(None, gt=0)

    split: ClassVar[str | None] = None
    subsets: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[str | None] = None
    judges: ClassVar[tuple[str, ...]] = PromptsEvaluation.judges
    columns: ClassVar[tuple[Column, ...]] = SAFETY
    headline: ClassVar[tuple[Column, ...]] = SAFETY[:1]
    listed: ClassVar[tuple[str, ...]] = ("asr", "over_refusal", "strongreject")

    def items(self) -> list[Item]:
        return items_of("attack", self.benchmark, self.drawn())

    def drawn(self) -> list[str]:
        return some_of(instructions_in(self.rows(), self.path, columns=self.known), self.prompts)

    @property
    def known(self) -> InstructionColumns:
        columns: dict[str, Any] = {"text": self.text, "ignore": ["*"]}
        return InstructionColumns(**columns)

    def rows(self) -> list[Located]:
        """
        Raises:
            DataError: they cannot be read.
        """
        if not self.subsets or looks_local(self.path) or ":" in self.path:
            return read_source(self.path, self.split)
        return [row for subset in self.subsets for row in read_source(f"{self.path}:{subset}", self.split)]

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        problems = []
        for name, path in self.reads().items():
            place = f"{key}.{name}"
            problems += missing_path(place, path or "", base_dir) or unreadable(place, path or "", self, self.items)
        return problems

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path}
