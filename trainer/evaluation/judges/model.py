"""A chat model as judge, as a section of a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import JudgeSection
from trainer.config.models import model_problems
from trainer.config.section import section
from trainer.config.tokenizer import tokenizer_problems
from trainer.items import Measure

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class ModelJudgeSection(JudgeSection):
    """Asks a chat model, which answers in words; replies that cannot be parsed are counted as invalid.

    path: its directory or hub name. batch_size: replies that are generated together on one rank.
    """

    name: Literal["model"]
    path: str | None = None
    batch_size: int = Field(16, gt=0)

    made: ClassVar[str] = "trainer.evaluation.judges.asked:of_model"
    measures: ClassVar[frozenset[Measure]] = frozenset({"cosa", "attack", "over_refusal"})

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if self.path is None:
            return [f"{key}.path: judge=model needs the judge's model directory or hub name."]
        missing = model_problems(f"{key}.path", self.path, base_dir)
        return missing or tokenizer_problems(f"{key}.path", self.path, base_dir)

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path}
