"""JailbreakBench (arXiv 2404.01318): 100 harmful behaviours, and 100 benign ones on the same subjects."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.bases import Column
from trainer.config.section import section
from trainer.data.hub import read_source
from trainer.data.instructions import instructions_in
from trainer.evaluation.columns import SAFETY
from trainer.evaluation.suites.prompts import items_of, some_of
from trainer.evaluation.suites.published import PublishedPrompts
from trainer.items import Item

HUB = "JailbreakBench/JBB-Behaviors:behaviors"


@section
class JailbreakbenchEvaluation(PublishedPrompts):
    """JailbreakBench: attack success on its harmful behaviours, over-refusal on its benign ones.

    benign: as path, of the benign ones; null leaves them out. prompts: of each kind.
    """

    benchmark: Literal["jailbreakbench"]
    path: str = HUB
    benign: str | None = HUB

    split: ClassVar[str | None] = "harmful"
    headline: ClassVar[tuple[Column, ...]] = SAFETY[:2]

    def items(self) -> list[Item]:
        harmful = super().items()
        if self.benign is None:
            return harmful
        benign = instructions_in(read_source(self.benign, "benign"), self.benign, columns=self.known)
        return harmful + items_of("over_refusal", self.benchmark, some_of(benign, self.prompts))

    def reads(self) -> dict[str, str | None]:
        return super().reads() if self.benign is None else super().reads() | {"benign": self.benign}
