"""BeaverTails-Evaluation (arXiv 2307.04657): 700 harmful prompts, fifty for each of its categories."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.evaluation.suites.published import PublishedPrompts


@section
class BeavertailsEvaluation(PublishedPrompts):
    """BeaverTails-Evaluation."""

    benchmark: Literal["beavertails"]
    path: str = "PKU-Alignment/BeaverTails-Evaluation"

    text: ClassVar[str | None] = "prompt"
