"""SORRY-Bench (arXiv 2406.14598): unsafe instructions, ten for each of its categories."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.data.files import Located
from trainer.evaluation.suites.published import PublishedPrompts


@section
class SorryBenchEvaluation(PublishedPrompts):
    """SORRY-Bench's base prompts; its twenty mutations of each are left out."""

    benchmark: Literal["sorry_bench"]
    path: str = "sorry-bench/sorry-bench-202503"

    text: ClassVar[str | None] = "turns.0"

    def rows(self) -> list[Located]:
        return [(where, row) for where, row in super().rows() if row.get("prompt_style", "base") == "base"]
