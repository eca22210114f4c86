"""CoSAlign-Test (arXiv 2410.08968, section 5): prompts that each stand under a config of named categories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.cosa.safety_config import render_safety_config
from trainer.cosa.taxonomy import COSA, OTHER_HARMS
from trainer.data.check import unreadable
from trainer.data.files import Row
from trainer.data.hub import read_splits
from trainer.errors import DataError
from trainer.evaluation.columns import COSA as COSA_COLUMNS
from trainer.evaluation.columns import COSA_SCORE
from trainer.items import Item
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

LABELS = ("config_categories", "prompt_categories")
COLUMNS = ("prompt", *LABELS, "situation")
HUB_COLUMNS = ("prompt", "situation")  # there the name of a split is its config
HUB_NONE = "safe"
HUB_SITUATIONS = {"1": "allowed", "2": "partial", "3": "disallowed"}
SITUATIONS = ("safe", "allowed", "partial", "disallowed")
BENCHMARK_SEED = 0  # the test is the same for every run, whatever the run's seed
NO_CATEGORY = "none"  # the short name of the config that allows nothing


@section
class CosalignTestEvaluation(SuiteSection):
    """CoSAlign-Test.

    path: its file or directory, or its hub name. prompts: under each config; null is all.
    models, resamples: as of every suite.
    """

    benchmark: Literal["cosalign_test"]
    path: str = "microsoft/CoSAlign-Test"
    prompts: int | None = Field(None, gt=0)

    shows_configs: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = COSA_COLUMNS
    headline: ClassVar[tuple[Column, ...]] = COSA_SCORE
    listed: ClassVar[tuple[str, ...]] = ("cosa_score", "helpful_safe", "helpful_unsafe")

    def items(self) -> list[Item]:
        return cosalign_test_items(self.path, self.prompts)

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        missing = missing_path(f"{key}.path", self.path, base_dir)
        return missing or unreadable(f"{key}.path", self.path, self, self.items)

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path}


def cosalign_test_items(source: str | Path, prompts_per_config: int | None, seed: int = BENCHMARK_SEED) -> list[Item]:
    """The benchmark, in file order.

    Args:
        source: a data file (jsonl, json, csv, parquet), a directory of them, read in the order of their names, or a hub name.
            Columns: prompt; config_categories and prompt_categories as `-A-B-` (`--`: none); situation (safe, allowed, partial,
            disallowed). Or as on the hub: one file or split for each config, called after its categories (`A.B`; `safe`:
            none), with prompt, and situation 1 (allowed), 2 (partial) or 3 (disallowed).
        prompts_per_config: draw so many of each config at random (the published file is sorted by situation); None
            keeps all. Rows left out are checked too.
        seed: of that draw, and of the template and bullet order of each row's config; the same for every run.

    Raises:
        DataError: a file is missing, empty or damaged, or a row is not what the columns above say.
    """
    by_config: dict[str, list[Item]] = {}
    rows = [(split, where, row) for split, found in read_splits(str(source)).items() for where, row in found]
    for row_index, (split, where, row) in enumerate(rows):
        called = None if row.keys() & set(LABELS) else _config_called(split)
        allowed, situation = _checked(row, where) if called is None else (called, _checked_of_hub(row, where, called))
        name = _short_name(allowed)
        items = by_config.setdefault(name, [])
        items.append(
            Item(
                id=f"{name}/{len(items):04d}",
                suite="cosa",
                prompt=row["prompt"],
                split="seen" if allowed <= set(COSA.trained_on) else "unseen",
                safety_config=name,
                allowed=allowed,
                system=render_safety_config(allowed, COSA, random.Random(f"{seed}/{row_index}")),
                situation=situation,
            )
        )
    return [item for name, items in by_config.items() for item in drawn(items, prompts_per_config, f"{seed}/{name}")]


def drawn(items: list[Item], count: int | None, seed: str) -> list[Item]:
    """So many of the items at random, in their order; None keeps all."""
    if count is None or count >= len(items):
        return items
    return [items[index] for index in sorted(random.Random(seed).sample(range(len(items)), count))]


def _short_name(allowed: frozenset[str]) -> str:
    return " + ".join(name for name in COSA.names if name in allowed) or NO_CATEGORY


def _config_called(split: str) -> frozenset[str] | None:
    """The categories that a config of this name on the hub allows; None where it is no such name."""
    try:
        return frozenset() if split == HUB_NONE else COSA.parse_label(split) or None
    except DataError:
        return None


def _checked_of_hub(row: Row, where: str, allowed: frozenset[str]) -> str:
    """The situation of a row on the hub, once every column has been checked."""
    _require(row, where, HUB_COLUMNS)
    situation = HUB_SITUATIONS.get(str(row["situation"]).removeprefix("situation").strip())
    if situation is None:
        raise DataError(f"{where}: situation: unknown {row['situation']!r}; it must be situation 1, 2 or 3.")
    return "safe" if situation == "allowed" and not allowed else situation


def _require(row: Row, where: str, columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in row]:
        raise DataError(
            f"{where}: CoSAlign-Test needs the columns {', '.join(columns)}; {', '.join(missing)} missing, "
            f"the row has {', '.join(row) or 'none'}. Rename or add them, or keep the names of files as they are on the hub."
        )
    if not isinstance(row["prompt"], str):
        raise DataError(f"{where}: prompt must be text, is {type(row['prompt']).__name__}; write it as a JSON string.")


def _checked(row: Row, where: str) -> tuple[frozenset[str], str]:
    """The categories that the row's config allows, and its situation, once every column has been checked."""
    _require(row, where, COLUMNS)
    if row["situation"] not in SITUATIONS:
        hint = did_you_mean(str(row["situation"]), SITUATIONS)
        raise DataError(f"{where}: situation: unknown {row['situation']!r}; {hint}")
    for column in LABELS:
        if not isinstance(row[column], str):
            raise DataError(f"{where}: {column} must be text, is {type(row[column]).__name__}; write it as a JSON string.")
    categories = {}
    for column in LABELS:
        try:
            categories[column] = COSA.parse_label(row[column])
        except DataError as error:
            raise DataError(f"{where}: {column}: {error}") from None
    if OTHER_HARMS in categories["config_categories"]:
        raise DataError(f"{where}: config_categories: no config can allow {OTHER_HARMS}; remove it from the label.")
    return categories["config_categories"], row["situation"]
