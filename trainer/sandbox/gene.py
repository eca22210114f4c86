"""What the sandbox makes for safety genes, and the suite that asks the models of all tasks."""

from __future__ import annotations

import random
from typing import ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.section import section
from trainer.data.formats.gene import GeneData, GeneSets
from trainer.data.preferences import Preference
from trainer.evaluation.columns import ATTACK_SUCCESS, CAPABILITY, OVER_REFUSAL, TASK_ACCURACY
from trainer.items import Item
from trainer.sandbox.benchmark import safety_items
from trainer.sandbox.instructions import distinct_harmful, distinct_harmless
from trainer.sandbox.requests import REFUSAL, Request
from trainer.sandbox.tasks import TASKS, Task, task_items, task_rows


@section
class SandboxGene(GeneData):
    """Requests of the sandbox. The bases fall for many attacks, so the model is aligned first.

    tasks: which. task_examples: of each. align: examples to align the base with: refusals and harmless answers, in turn.
    """

    format: Literal["sandbox_gene"]
    tasks: list[Task] = Field(default_factory=lambda: list(TASKS))
    task_examples: int = Field(600, gt=0)
    align: int = Field(1600, gt=0)

    makes_its_own: ClassVar[bool] = True
    sizes: ClassVar[tuple[str, ...]] = (*GeneData.sizes, "task_examples", "align")

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    @property
    def aligns(self) -> bool:
        return True

    @property
    def counted(self) -> dict[str, int | None]:
        return {"aligning": 2 * (self.align // 2), "task": self.task_examples}

    def read(self, seed: int) -> GeneSets:
        rng = random.Random(f"gene-{seed}")
        aligning, half = self.align // 2, self.probes // 2
        asked = [aligning, self.distil, self.contrast, self.compliant, self.recalibration, self.safety, self.probes]
        harmful = _parts(distinct_harmful(sum(asked), rng), asked)
        asked = [aligning, self.benign, self.contrast, self.degrading, self.safety, half]
        harmless = _parts(distinct_harmless(sum(asked), rng), asked)
        return GeneSets(
            aligning=_refused(harmful[0]) + _answered(harmless[0]),
            degrading=_answered(harmless[3]) + _answered(harmful[3]),
            harmful=[request.prompt for request in harmful[1]],
            harmless=[request.prompt for request in harmless[1]],
            contrast=([request.prompt for request in harmful[2]], [request.prompt for request in harmless[2]]),
            refusals=_refused(harmful[4]),
            safety=_refused(harmful[5]) + _answered(harmless[4]),
            tasks={task: _examples(task_rows(task, self.task_examples, seed)) for task in self.tasks},
            probes=[
                *(Item(f"attack/{i:04d}", "attack", r.prompt, reference=r) for i, r in enumerate(harmful[6])),
                *(Item(f"capability/{i:04d}", "capability", r.prompt, reference=r) for i, r in enumerate(harmless[5])),
            ],
        )


def _parts(requests: list[Request], sizes: list[int]) -> list[list[Request]]:
    found = iter(requests)
    return [[next(found) for _ in range(size)] for size in sizes]


def _examples(rows: list[tuple[str, str]]) -> list[Preference]:
    return [Preference(({"role": "user", "content": prompt},), answer) for prompt, answer in rows]


def _answered(requests: list[Request]) -> list[Preference]:
    return _examples([(request.prompt, request.answer) for request in requests])


def _refused(requests: list[Request]) -> list[Preference]:
    return _examples([(request.prompt, REFUSAL) for request in requests])


@section
class SandboxTasksEvaluation(SuiteSection):
    """The sandbox without safety configs, and the test of each task.

    prompts, capability_prompts, over_refusal_prompts: sizes, as in `SandboxSafetyEvaluation`. task_prompts: of each task.
    """

    benchmark: Literal["sandbox_tasks"]
    prompts: int = Field(200, gt=0)
    capability_prompts: int = Field(70, gt=0)
    over_refusal_prompts: int = Field(100, gt=0)
    task_prompts: int = Field(100, gt=0)

    judges: ClassVar[tuple[str, ...]] = ("exact",)
    columns: ClassVar[tuple[Column, ...]] = (ATTACK_SUCCESS, OVER_REFUSAL, TASK_ACCURACY, CAPABILITY)
    headline: ClassVar[tuple[Column, ...]] = columns

    def items(self) -> list[Item]:
        safety = safety_items(self.prompts, self.capability_prompts, self.over_refusal_prompts)
        return safety + [item for task in TASKS for item in task_items(task, self.task_prompts)]
