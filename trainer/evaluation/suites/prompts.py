"""Evaluation prompts from files: harmful requests (attack success) and harmless ones (over-refusal)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.columns import InstructionColumns
from trainer.data.instructions import draw, read_instructions
from trainer.evaluation.columns import SAFETY
from trainer.items import Item, Measure
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

PROMPTS_SEED = 0  # the same prompts for every run, whatever the run's seed


@section
class PromptsEvaluation(SuiteSection):
    """Prompts from files.

    attacks: name -> file or hub dataset of harmful requests: attack success. benign: the same of harmless ones: over-refusal.
    splits: name -> which split of a directory or a hub dataset, where it holds several; several joined by `+`.
    file_columns: name -> what the columns of that file are, where the usual names do not say it; see `InstructionColumns`.
    prompts: how many are drawn of each; null is all. models, resamples: as of every suite.
    """

    benchmark: Literal["prompts"]
    attacks: dict[str, str] = Field(default_factory=dict)
    benign: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, str] = Field(default_factory=dict)
    file_columns: dict[str, InstructionColumns] = Field(default_factory=dict)
    prompts: int | None = Field(None, gt=0)

    judges: ClassVar[tuple[str, ...]] = ("model", "endpoint", "refusal", "guardrail")
    columns: ClassVar[tuple[Column, ...]] = SAFETY
    headline: ClassVar[tuple[Column, ...]] = SAFETY[:3]

    def items(self) -> list[Item]:
        items = []
        for name in self.attacks:
            items += _items("attack", name, self._drawn(name, harmful=True))
        for name in self.benign:
            items += _items("over_refusal", name, self._drawn(name, harmful=False))
        return items

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        if not self.attacks and not self.benign:
            return ["evaluation.attacks: there is nothing to ask; set evaluation.attacks.NAME=FILE or evaluation=none."]
        names, problems = {*self.attacks, *self.benign}, []
        for key, of_names in (("splits", self.splits), ("file_columns", self.file_columns)):
            for name in of_names.keys() - names:
                problems.append(f"evaluation.{key}.{name}: there is no such set of prompts; {did_you_mean(name, names)}")
        for kind, sets in (("attacks", self.attacks), ("benign", self.benign)):
            for name, path in sets.items():
                key, read = f"evaluation.{kind}.{name}", partial(self._drawn, name, harmful=kind == "attacks")
                problems += missing_path(key, path, base_dir) or unreadable(key, path, self, read)
        return problems

    def _drawn(self, name: str, harmful: bool) -> list[str]:
        source, columns = (self.attacks if harmful else self.benign)[name], self.file_columns.get(name)
        key = f"evaluation.file_columns.{name}"
        prompts = read_instructions(source, harmful=harmful, key=key, split=self.splits.get(name), columns=columns)
        if self.prompts is None or self.prompts >= len(prompts):
            return prompts
        return draw(prompts, [self.prompts], PROMPTS_SEED)[0]

    def reads(self) -> dict[str, str | None]:
        sets = (("attacks", self.attacks), ("benign", self.benign))
        return {f"{kind}.{name}": path for kind, of_kind in sets for name, path in of_kind.items()}


def _items(suite: Measure, name: str, prompts: list[str]) -> list[Item]:
    """An item's split is its set."""
    return [Item(f"{suite}/{name}/{index:04d}", suite, prompt, split=name) for index, prompt in enumerate(prompts)]
