"""AdvBench (arXiv 2307.15043): 520 harmful instructions."""

from __future__ import annotations

from typing import Literal

from trainer.config.section import section
from trainer.evaluation.suites.published import PublishedPrompts


@section
class AdvbenchEvaluation(PublishedPrompts):
    """AdvBench's harmful behaviours."""

    benchmark: Literal["advbench"]
    path: str = "walledai/AdvBench"
