"""Direct preference optimisation, as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainer.config.section import section
from trainer.config.stage import TrlSection
from trainer.methods.pairs.section import DPO, PairsMethod


@section
class DpoMethod(PairsMethod):
    """DPO alone, from the base itself."""

    name: Literal["dpo"] = "dpo"

    trl: ClassVar[Mapping[str, TrlSection]] = {"dpo": DPO}

    @property
    def trained(self) -> Mapping[str, str]:
        return {"dpo": "sft_dpo"}
