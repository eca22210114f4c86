"""A chat model behind an endpoint as judge, as a section of a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.config.bases import JudgeSection
from trainer.config.endpoint import EndpointSection
from trainer.config.section import section
from trainer.items import Measure

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class EndpointJudgeSection(EndpointSection, JudgeSection):
    """Asks a chat model at a server the questions that judge=model asks one of this machine's."""

    name: Literal["endpoint"]

    made: ClassVar[str] = "trainer.evaluation.judges.remote:of_endpoint"
    measures: ClassVar[frozenset[Measure]] = frozenset({"cosa", "attack", "over_refusal"})

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        return self.endpoint_problems(key)
