"""HarmfulQA (arXiv 2308.09662): 1,960 harmful questions by subject."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.evaluation.suites.published import PublishedPrompts


@section
class HarmfulqaEvaluation(PublishedPrompts):
    """HarmfulQA's questions, without the conversations beside them."""

    benchmark: Literal["harmfulqa"]
    path: str = "declare-lab/HarmfulQA"

    text: ClassVar[str | None] = "question"
