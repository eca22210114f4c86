"""What models are asked in the sandbox, and the judge that reads its language."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, JudgeSection, SuiteSection
from trainer.config.section import section
from trainer.evaluation.columns import CAPABILITY, COSA, COSA_SCORE, OVER_REFUSAL, SAFETY
from trainer.items import SHOTS, Item, Judge, Measure
from trainer.sandbox.benchmark import exact_judge, safety_items, sandbox_items


@section
class SandboxEvaluation(SuiteSection):
    """The sandbox under eight safety configs, capability tasks and harmless look-alikes.

    models: which labels to compare; null is all that the run has.
    prompts: under each config. capability_prompts, over_refusal_prompts: sizes. resamples: of the bootstrap intervals.
    """

    benchmark: Literal["sandbox"]
    prompts: int = Field(120, gt=0)
    capability_prompts: int = Field(420, gt=0)
    over_refusal_prompts: int = Field(200, gt=0)

    judges: ClassVar[tuple[str, ...]] = ("exact",)
    shows_configs: ClassVar[bool] = True
    shots: ClassVar[int] = SHOTS
    columns: ClassVar[tuple[Column, ...]] = (*COSA, OVER_REFUSAL, CAPABILITY)
    headline: ClassVar[tuple[Column, ...]] = (*COSA_SCORE, OVER_REFUSAL, CAPABILITY)

    def items(self) -> list[Item]:
        return sandbox_items(self.prompts, self.capability_prompts, self.over_refusal_prompts)


@section
class SandboxSafetyEvaluation(SuiteSection):
    """The sandbox without safety configs: risky requests (attack success), capability tasks and harmless look-alikes.
    Keys as in `SandboxEvaluation`."""

    benchmark: Literal["sandbox_safety"]
    prompts: int = Field(400, gt=0)
    capability_prompts: int = Field(420, gt=0)
    over_refusal_prompts: int = Field(200, gt=0)

    judges: ClassVar[tuple[str, ...]] = ("exact", "guardrail")
    columns: ClassVar[tuple[Column, ...]] = SAFETY
    headline: ClassVar[tuple[Column, ...]] = SAFETY[:3]

    def items(self) -> list[Item]:
        return safety_items(self.prompts, self.capability_prompts, self.over_refusal_prompts)


@section
class ExactJudgeSection(JudgeSection):
    """Reads the sandbox's language, exactly."""

    name: Literal["exact"]

    made: ClassVar[str] = "trainer.sandbox.suites:made"
    measures: ClassVar[frozenset[Measure]] = frozenset({"cosa", "attack", "over_refusal", "capability"})


def made(_section: JudgeSection, _key: str, _context: object) -> Judge:
    return exact_judge
