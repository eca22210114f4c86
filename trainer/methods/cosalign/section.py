"""CoSAlign, as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.config.stage import TrlSection
from trainer.methods.pairs.section import DPO, SFT, PairsMethod


@section
class CosalignMethod(PairsMethod):
    """SFT on the chosen responses, then DPO on the pairs (arXiv 2410.08968)."""

    name: Literal["cosalign"] = "cosalign"

    trl: ClassVar[Mapping[str, TrlSection]] = {"sft": SFT, "dpo": DPO}

    @property
    def trained(self) -> Mapping[str, str]:
        return {"sft": "sft", "dpo": "sft_dpo"}
