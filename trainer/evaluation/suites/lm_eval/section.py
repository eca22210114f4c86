"""Capability as lm-evaluation-harness measures it: MMLU, GSM8K, IFEval, ARC, HellaSwag, TruthfulQA, ... by its own names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import Column, SuiteSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.dotted import resolve
from trainer.evaluation.columns import ALIGNMENT_TAX, CAPABILITY
from trainer.items import Contender, Item

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class LmEvalEvaluation(SuiteSection):
    """Tasks of lm-evaluation-harness, on the loaded models, without a judge. Needs `pip install 'keel[lm-eval]'`.

    tasks: its tasks, groups and tags, by its names.
    include_path: a folder with task files of your own, as `lm_eval --include_path` takes it.
    data: task -> split -> a file with the rows of that split, in place of what the task would take from the hub.
    num_fewshot, limit, apply_chat_template, fewshot_as_multiturn: as of `lm_eval.simple_evaluate`; null is the task's own, and
        no limit. batch_size: as of its `HFLM`.
    models, resamples: as of every suite.
    """

    benchmark: Literal["lm_eval"]
    tasks: list[str] = Field(default_factory=list)
    include_path: str | None = None
    data: dict[str, dict[str, str]] = Field(default_factory=dict)
    num_fewshot: int | None = Field(None, ge=0)
    limit: int | None = Field(None, gt=0)
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    batch_size: int = Field(16, gt=0)

    columns: ClassVar[tuple[Column, ...]] = (CAPABILITY, ALIGNMENT_TAX)
    headline: ClassVar[tuple[Column, ...]] = (CAPABILITY,)
    listed: ClassVar[tuple[str, ...]] = ("lm_eval",)
    measured: ClassVar[str | None] = "trainer.evaluation.suites.lm_eval.measure:measure"

    def items(self) -> list[Item]:
        return []

    def contenders(self, known: Sequence[Contender]) -> list[Contender]:
        """Tasks are asked without safety configs, so that a model that differs in them alone is the same one again."""
        return [contender for contender in known if not contender.in_context]

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        if not self.tasks:
            return [
                f"{key}.tasks: there is nothing to ask; name tasks of lm-evaluation-harness, or choose evaluation=capability."
            ]
        if find_spec("lm_eval") is None:
            return [f"{key}: benchmark=lm_eval needs lm-evaluation-harness: pip install 'keel[lm-eval]' -c constraints.txt"]
        problems = [] if self.include_path is None else missing_path(f"{key}.include_path", self.include_path, base_dir)
        for task, files in self.data.items():
            for split, path in files.items():
                place = f"{key}.data.{task}.{split}"
                if not (base_dir / Path(path).expanduser()).is_file():
                    problems += missing_path(place, path, base_dir) or [f"{place}: {path} is no file; give one."]
        return problems or resolve("trainer.evaluation.suites.lm_eval.tasks:task_problems")(self, key)

    def reads(self) -> dict[str, str | None]:
        files = {f"data.{task}.{split}": path for task, of in self.data.items() for split, path in of.items()}
        return {"include_path": self.include_path, **files}
