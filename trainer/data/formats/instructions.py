"""Data sections that give harmful and harmless instructions."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.columns import InstructionColumns
from trainer.data.instructions import read_instructions

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class InstructionData(DataSection):
    """Harmful and harmless instructions, from which disjoint samples are drawn.

    direction, validation: instructions of each kind to find the direction with, and to choose it by.
    limit: harmful prompts to train on.
    max_prompt_length: longer prompts (in tokens, the chat template included) are left out.
    """

    direction: int = Field(128, gt=0)
    validation: int = Field(32, gt=0)
    limit: int = Field(100, gt=0)
    max_prompt_length: int = Field(512, gt=0)

    @abstractmethod
    def read(self, seed: int) -> tuple[list[str], list[str], list[str] | None]:
        """Harmful instructions, harmless ones, and the harmful prompts to train on where they stand apart.

        Raises:
            DataError: a file cannot be read.
        """


@section
class InstructionFiles(InstructionData):
    """Instructions from files.

    harmful, harmless: a local file or directory (jsonl, json, csv, parquet, also .gz) or a hub dataset name, with a column
        instruction, prompt, goal or the like.
    prompts: likewise, the harmful prompts to train on; null draws them from `harmful`.
    split: which split of directories that hold several, and of hub datasets.
    columns: what their columns are, for each where the usual names do not say it; see `InstructionColumns`.
    """

    format: Literal["instructions"]
    harmful: str | None = None
    harmless: str | None = None
    prompts: str | None = None
    split: str = "train"
    columns: dict[Literal["harmful", "harmless", "prompts"], InstructionColumns] = Field(default_factory=dict)

    def read(self, seed: int) -> tuple[list[str], list[str], list[str] | None]:
        assert self.harmful is not None and self.harmless is not None  # checked when the config was loaded
        harmful, harmless = self._read("harmful", self.harmful), self._read("harmless", self.harmless)
        return harmful, harmless, None if self.prompts is None else self._read("prompts", self.prompts)

    def _read(self, name: str, source: str) -> list[str]:
        columns = next((columns for named, columns in self.columns.items() if named == name), None)
        harmful = name != "harmless"
        return read_instructions(source, harmful=harmful, key=f"data.columns.{name}", split=self.split, columns=columns)

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        problems = []
        for name, path in self.reads().items():
            if path is not None:
                missing = missing_path(f"{key}.{name}", path, base_dir)
                problems += missing or unreadable(f"{key}.{name}", path, self, partial(self._read, name, path))
            elif name != "prompts":
                problems.append(f"{key}.{name}: {key}.format={self.format} needs a file, a directory or a hub name.")
        return problems

    def reads(self) -> dict[str, str | None]:
        return {"harmful": self.harmful, "harmless": self.harmless, "prompts": self.prompts}
