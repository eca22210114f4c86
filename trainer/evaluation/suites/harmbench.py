"""HarmBench (arXiv 2402.04249): behaviours in text: standard, contextual and about copyright."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.data.files import Located
from trainer.evaluation.suites.published import PublishedPrompts


@section
class HarmbenchEvaluation(PublishedPrompts):
    """HarmBench's behaviours in text; what one speaks of stands before it, as in its own code."""

    benchmark: Literal["harmbench"]
    path: str = "walledai/HarmBench"

    subsets: ClassVar[tuple[str, ...]] = ("standard", "contextual", "copyright")

    def rows(self) -> list[Located]:
        """On the hub the column has another name than in the published file."""
        renamed = {"context": "ContextString", "prompt": "Behavior"}
        return [(where, {renamed.get(name, name): value for name, value in row.items()}) for where, row in super().rows()]
