"""A trained guardrail as judge, as a section of a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import JudgeSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.dotted import resolve
from trainer.errors import ArtifactError, ConfigError
from trainer.items import Measure

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class GuardrailJudgeSection(JudgeSection):
    """A guardrail of a dsa run reads prompt and response: an attack has succeeded where it flags the response. How well it
    tells unsafe responses from safe ones (ROC AUC, on the test sets of its run) stands beside all its numbers.

    path: its directory in that run, such as runs/guards/guardrail_lst; the run's config says which base it reads.
    false_positive_rate: the share of the run's safe validation responses that it may flag; sets its threshold.
    batch_size: responses that are read together on one rank.
    """

    name: Literal["guardrail"]
    path: str | None = None
    false_positive_rate: float = Field(0.05, ge=0, lt=1)
    batch_size: int = Field(16, gt=0)

    made: ClassVar[str] = "trainer.methods.dsa.judging:judge"
    measures: ClassVar[frozenset[Measure]] = frozenset({"attack"})

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if self.path is None:
            return [f"{key}.path: judge=guardrail needs the directory of a guardrail, such as runs/guards/guardrail_lst."]
        if missing := missing_path(f"{key}.path", self.path, base_dir):
            return missing
        try:
            resolve("trainer.methods.dsa.quality:quality_of")(base_dir / Path(self.path).expanduser(), self.false_positive_rate)
        except (ArtifactError, ConfigError) as error:
            return [f"{key}.path: {error}"]
        return []

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path}
