"""Supervised fine-tuning, as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.config.stage import TrlSection
from trainer.methods.pairs.section import SFT, PairsMethod


@section
class SftMethod(PairsMethod):
    """SFT alone."""

    name: Literal["sft"] = "sft"

    trl: ClassVar[Mapping[str, TrlSection]] = {"sft": SFT}

    @property
    def trained(self) -> Mapping[str, str]:
        return {"sft": "sft"}
