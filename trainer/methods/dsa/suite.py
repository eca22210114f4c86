"""An evaluation of guardrails alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.config.bases import SuiteSection
from trainer.config.section import section
from trainer.items import Item
from trainer.methods.dsa.section import DsaMethod

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class GuardrailEvaluation(SuiteSection):
    """Only the guardrails of the run, on their test sets. Other suites measure them too, beside the models."""

    benchmark: Literal["guardrails"]

    asks: ClassVar[bool] = False

    def items(self) -> list[Item]:
        return []

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if not isinstance(config.method, DsaMethod):
            return [f"{key}: method={config.method.name} trains no guardrails; choose another evaluation."]
        if self.models is not None:
            return [f"{key}.models: guardrails asks no model anything; remove this key."]
        return []
