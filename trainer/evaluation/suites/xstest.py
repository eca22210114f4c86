"""XSTest (arXiv 2308.01263): 250 safe prompts that look unsafe, and 200 unsafe ones for contrast."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.bases import Column
from trainer.config.section import section
from trainer.data.instructions import instructions_in
from trainer.evaluation.columns import SAFETY
from trainer.evaluation.suites.prompts import items_of, some_of
from trainer.evaluation.suites.published import PublishedPrompts
from trainer.items import Item


@section
class XstestEvaluation(PublishedPrompts):
    """XSTest: over-refusal on the safe half, attack success on the unsafe one. prompts: of each half."""

    benchmark: Literal["xstest"]
    path: str = "walledai/XSTest"

    headline: ClassVar[tuple[Column, ...]] = SAFETY[:2]

    def items(self) -> list[Item]:
        rows = self.rows()
        safe, unsafe = (some_of(instructions_in(rows, self.path, harmful=harmful), self.prompts) for harmful in (False, True))
        return items_of("over_refusal", self.benchmark, safe) + items_of("attack", self.benchmark, unsafe)
