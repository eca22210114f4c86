"""Supervised fine-tuning, as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainer.config.bases import DataSection
from trainer.config.section import section
from trainer.config.stage import TrlSection
from trainer.data.formats.pairs import DemonstrationData
from trainer.methods.pairs.section import SFT, PairsMethod


@section
class SftMethod(PairsMethod):
    """SFT alone."""

    name: Literal["sft"] = "sft"

    data: ClassVar[type[DataSection]] = DemonstrationData
    data_words: ClassVar[str] = "preference pairs or conversations, such as data=sandbox or data=chat"
    trl: ClassVar[Mapping[str, TrlSection]] = {"sft": SFT}

    @property
    def trained(self) -> Mapping[str, str]:
        return {"sft": "sft"}
