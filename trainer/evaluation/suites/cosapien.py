"""CoSApien (arXiv 2410.08968, section 5): prompts written by people, each under the guideline of a company."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.cosa.safety_config import free_form_safety_config
from trainer.data.check import unreadable
from trainer.data.files import require_columns, text_of
from trainer.data.hub import read_splits
from trainer.errors import DataError
from trainer.evaluation.columns import COSA
from trainer.evaluation.suites.cosalign_test import drawn
from trainer.items import Item
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

COLUMNS = ("prompt", "scenario", "type")
SEED = 0  # the same prompts for every run, whatever the run's seed


@section
class CosapienEvaluation(SuiteSection):
    """CoSApien. Its prompts name the scenario that they stand under; the guidelines are published apart from them.

    path: its file or directory, or its hub name. guidelines: a JSON file with an object: scenario -> its guideline.
    prompts: under each guideline; null is all. models, resamples: as of every suite.
    """

    benchmark: Literal["cosapien"]
    path: str = "jackzhang/CoSApien"
    guidelines: str | None = None
    prompts: int | None = Field(None, gt=0)

    shows_configs: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = COSA[1::2]  # no guideline is one that training used
    headline: ClassVar[tuple[Column, ...]] = COSA[1:2]
    listed: ClassVar[tuple[str, ...]] = ("cosa_score", "helpful_safe", "helpful_unsafe")

    def items(self) -> list[Item]:
        return cosapien_items(self.path, Path(self.guidelines or "").expanduser(), self.prompts)

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if self.guidelines is None:
            return [f"{key}.guidelines: {key}.benchmark=cosapien needs it; give a path."]
        missing = [
            line for name, path in self.reads().items() if path is not None
            for line in missing_path(f"{key}.{name}", path, base_dir)
        ]  # fmt: skip
        return missing or unreadable(f"{key}.path", self.path, self, self.items)

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path, "guidelines": self.guidelines}


def cosapien_items(source: str, guidelines: Path, prompts_per_config: int | None) -> list[Item]:
    """The benchmark, in file order; each item with its guideline, by which a judge decides.

    Args:
        source: a file, a directory or a hub name, with the columns prompt, scenario and type.
        guidelines: a JSON object: scenario -> its guideline.
        prompts_per_config: draw so many of each scenario at random; None keeps all.

    Raises:
        DataError: one of them cannot be read, or a scenario has no guideline.
    """
    known = _guidelines(guidelines)
    by_scenario: dict[str, list[Item]] = {}
    for where, row in (row for rows in read_splits(source).values() for row in rows):
        require_columns([(where, row)], COLUMNS, "cosapien")
        prompt, scenario, situation = (text_of(row, column, where) for column in COLUMNS)
        if scenario not in known:
            raise DataError(
                f"{where}: scenario: {scenario!r} has no guideline in {guidelines}; {did_you_mean(scenario, known)}"
            )
        items = by_scenario.setdefault(scenario, [])
        items.append(
            Item(
                id=f"{scenario}/{len(items):04d}",
                suite="cosa",
                prompt=prompt,
                split="unseen",
                safety_config=scenario,
                system=free_form_safety_config(known[scenario]),
                situation=situation,
                guideline=known[scenario],
            )
        )
    return [item for name, items in by_scenario.items() for item in drawn(items, prompts_per_config, f"{SEED}/{name}")]


def _guidelines(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}; write a JSON object: scenario -> its guideline.") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) and text.strip() for text in found.values()):
        raise DataError(f"{path}: must be a JSON object: scenario -> its guideline, each a text.")
    return found
