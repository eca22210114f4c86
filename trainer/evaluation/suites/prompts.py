"""Evaluation prompts from files: harmful requests (attack success) and harmless ones (over-refusal)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.columns import InstructionColumns
from trainer.data.instructions import draw, read_instructions
from trainer.evaluation.columns import SAFETY
from trainer.items import Item
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

PROMPTS_SEED = 0  # the same prompts for every run, whatever the run's seed


@section
class PromptsEvaluation(SuiteSection):
    """Prompts from files, judged by a chat model.

    attacks: name -> file or hub dataset of harmful requests: attack success. benign: the same of harmless ones: over-refusal.
    file_columns: name -> what the columns of that file are, where the usual names do not say it; see `InstructionColumns`.
    prompts: how many are drawn of each; null is all. models, resamples: as of every suite.
    """

    benchmark: Literal["prompts"]
    attacks: dict[str, str] = Field(default_factory=dict)
    benign: dict[str, str] = Field(default_factory=dict)
    file_columns: dict[str, InstructionColumns] = Field(default_factory=dict)
    prompts: int | None = Field(None, gt=0)

    columns: ClassVar[tuple[Column, ...]] = SAFETY
    headline: ClassVar[tuple[Column, ...]] = SAFETY[:3]

    def items(self) -> list[Item]:
        return prompt_items(self.attacks, self.benign, self.prompts, self.file_columns)

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        if not self.attacks and not self.benign:
            return ["evaluation.attacks: there is nothing to ask; set evaluation.attacks.NAME=FILE or evaluation=none."]
        names = {*self.attacks, *self.benign}
        problems = [
            f"evaluation.file_columns.{name}: there is no such set of prompts; {did_you_mean(name, names)}"
            for name in self.file_columns.keys() - names
        ]
        for key, path in self.reads().items():
            problems += missing_path(f"evaluation.{key}", str(path), base_dir)
        return problems

    def reads(self) -> dict[str, str | None]:
        sets = (("attacks", self.attacks), ("benign", self.benign))
        return {f"{kind}.{name}": path for kind, of_kind in sets for name, path in of_kind.items()}


def prompt_items(
    attacks: Mapping[str, str],
    benign: Mapping[str, str],
    limit: int | None,
    columns: Mapping[str, InstructionColumns] | None = None,
) -> list[Item]:
    """The prompts of all sets; an item's split is its set.

    Args:
        attacks, benign: name -> file or hub dataset. limit: at most so many of each set, drawn once and for all.
        columns: name -> what the columns of that file are, where the usual names do not say it.

    Raises:
        DataError: a set cannot be read.
    """
    items = []
    for suite, sets in (("attack", attacks), ("over_refusal", benign)):
        for name, source in sets.items():
            known = (columns or {}).get(name)
            prompts = read_instructions(source, harmful=suite == "attack", key=f"evaluation.file_columns.{name}", columns=known)
            if limit is not None and limit < len(prompts):
                (prompts,) = draw(prompts, [limit], PROMPTS_SEED)
            items += [Item(f"{suite}/{name}/{i:04d}", suite, prompt, split=name) for i, prompt in enumerate(prompts)]  # type: ignore[arg-type]  # both are suites
    return items
