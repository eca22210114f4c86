"""Several suites in one run: safety, what it cost, and more, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import RESAMPLES, Column, SuiteSection
from trainer.config.paths import PLAIN_NAME
from trainer.config.section import OneOf, section
from trainer.evaluation.columns import SAFETY
from trainer.evaluation.members import of_member
from trainer.items import Item

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class SeveralEvaluation(SuiteSection):
    """Several suites, each under a name of its own, which the metrics of its sets carry: `asr/harmbench`.

    suites: name -> its section, as another evaluation has it. models: of all of them; a suite's own go first. resamples: of
        all of them.
    """

    benchmark: Literal["several"]
    suites: dict[str, Annotated[SuiteSection, OneOf("suites")]] = Field(default_factory=dict)

    columns: ClassVar[tuple[Column, ...]] = SAFETY
    headline: ClassVar[tuple[Column, ...]] = SAFETY[:3]

    @property
    def members(self) -> Mapping[str, SuiteSection]:
        return self.suites

    def items(self) -> list[Item]:
        return [item for name, suite in self.suites.items() for item in of_member(name, suite.items())]

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if not self.suites:
            return [f"{key}.suites: there is nothing to ask; choose evaluation=safety, capability, cosa or all, or name some."]
        problems = []
        for name, suite in self.suites.items():
            if not PLAIN_NAME.match(name):
                problems.append(f"{key}.suites.{name}: must be a plain name (letters, digits, _ and -); metrics carry it.")
            if suite.resamples not in (RESAMPLES, self.resamples):
                problems.append(
                    f"{key}.suites.{name}.resamples: set {key}.resamples, which is of all suites, and remove this key."
                )
            problems += suite.problems(f"{key}.suites.{name}", config, base_dir)
        measured = [(name, suite) for name, suite in self.suites.items() if suite.measured is not None]
        for (first, one), (second, other) in combinations(measured, 2):
            if one.measured == other.measured:  # metrics without a suite's name
                problems.append(
                    f"{key}.suites.{second}: its metrics have the same names as those of {first}, which is benchmark="
                    f"{other.benchmark} too; put both into one suite, or measure this one in another run."
                )
        return problems

    def reads(self) -> dict[str, str | None]:
        return {f"suites.{name}.{key}": path for name, suite in self.suites.items() for key, path in suite.reads().items()}
