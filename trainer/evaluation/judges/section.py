"""A chat model as judge, as a section of a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import JudgeSection
from trainer.config.hub import directory_of
from trainer.config.paths import adapter_problem, missing_path
from trainer.config.section import section
from trainer.config.tokenizer import tokenizer_problems

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class ModelJudgeSection(JudgeSection):
    """Asks a chat model, which answers in words; replies that cannot be parsed are counted as invalid.

    path: its directory or hub name. batch_size: replies that are generated together.
    """

    name: Literal["model"]
    path: str | None = None
    batch_size: int = Field(16, gt=0)

    made: ClassVar[str] = "trainer.evaluation.judges.model:ModelJudge"

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        if self.path is None:
            return ["judge.path: judge=model needs the judge's model directory or hub name."]
        missing = missing_path("judge.path", self.path, base_dir)
        if (directory := directory_of(self.path, base_dir)) is not None:
            missing += adapter_problem("judge.path", self.path, directory)
        return missing or tokenizer_problems("judge.path", self.path, base_dir)

    def reads(self) -> dict[str, str | None]:
        return {"path": self.path}
