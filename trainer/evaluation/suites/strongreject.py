"""StrongREJECT (arXiv 2402.10260): 313 forbidden prompts, and a rubric for how much an answer gives away."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from trainer.config.bases import Column
from trainer.config.section import section
from trainer.evaluation.columns import SAFETY, STRONGREJECT
from trainer.evaluation.suites.published import PublishedPrompts
from trainer.items import Item


@section
class StrongrejectEvaluation(PublishedPrompts):
    """StrongREJECT. A judge that answers in words also scores each answer by its rubric: `strongreject/<set>`."""

    benchmark: Literal["strongreject"]
    path: str = "walledai/StrongREJECT"

    columns: ClassVar[tuple[Column, ...]] = (STRONGREJECT, *SAFETY)
    headline: ClassVar[tuple[Column, ...]] = (STRONGREJECT, *SAFETY[:1])

    def items(self) -> list[Item]:
        return [replace(item, rubric="strongreject") for item in super().items()]
