"""PKU-SafeRLHF (arXiv 2406.15513): the prompts of its test split, which ask for harm or come near it."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.evaluation.suites.published import PublishedPrompts


@section
class PkuSaferlhfEvaluation(PublishedPrompts):
    """PKU-SafeRLHF's test prompts, each once. Training on its other split is data=pku."""

    benchmark: Literal["pku_saferlhf"]
    path: str = "PKU-Alignment/PKU-SafeRLHF"

    split: ClassVar[str | None] = "test"
    text: ClassVar[str | None] = "prompt"
