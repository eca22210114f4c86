"""Drift from the base on ordinary requests: how likely ordinary answers are, and how far the next tokens have moved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import PLAIN_NAME, missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.files import sample
from trainer.data.formats.chat import read_examples
from trainer.data.preferences import Preference
from trainer.evaluation.columns import KL_TO_BASE, PERPLEXITY
from trainer.items import Contender, Item
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class DriftEvaluation(SuiteSection):
    """Perplexity of ordinary answers, and the divergence of a model's next tokens from the base's on them. Nothing is generated
    or judged, so that it works for a model that is too small for other measures of capability.

    sets: name -> a file, a directory or a hub dataset of requests with answers, in the shapes of data=chat.
    splits: name -> which split, where it holds several. rows: answers of each set, drawn evenly; null is all.
    tokens: of each answer, from its beginning. batch_size: answers read together.
    models, resamples: as of every suite.
    """

    benchmark: Literal["drift"]
    sets: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, str] = Field(default_factory=dict)
    rows: int | None = Field(100, gt=0)
    tokens: int = Field(32, gt=0)
    batch_size: int = Field(8, gt=0)

    columns: ClassVar[tuple[Column, ...]] = (PERPLEXITY, KL_TO_BASE)
    headline: ClassVar[tuple[Column, ...]] = (PERPLEXITY, KL_TO_BASE)
    listed: ClassVar[tuple[str, ...]] = ("answer_perplexity", "kl_to_base")
    measured: ClassVar[str | None] = "trainer.evaluation.suites.drift.measure:measure"

    def items(self) -> list[Item]:
        return []

    def answers(self, name: str) -> list[Preference]:
        """Of one set: each a conversation up to a turn of the user, and the answer to it.

        Raises:
            DataError: they cannot be read, or there are none.
        """
        return sample(read_examples(self.sets[name], self.splits.get(name)), self.rows)

    def contenders(self, known: Sequence[Contender]) -> list[Contender]:
        """Without safety configs, so that a model that differs in them alone is the same one again."""
        return [contender for contender in known if not contender.in_context]

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if not self.sets:
            return [f"{key}.sets: there is nothing to measure on; set {key}.sets.NAME=FILE."]
        problems = [
            f"{key}.splits.{name}: there is no such set; {did_you_mean(name, self.sets)}"
            for name in self.splits.keys() - self.sets
        ]
        for name, path in self.sets.items():
            place = f"{key}.sets.{name}"
            if not PLAIN_NAME.match(name):
                problems.append(f"{place}: must be a plain name (letters, digits, _ and -); metrics carry it.")
            problems += missing_path(place, path, base_dir) or unreadable(place, path, self, partial(self.answers, name))
        return problems

    def reads(self) -> dict[str, str | None]:
        return {f"sets.{name}": path for name, path in self.sets.items()}
