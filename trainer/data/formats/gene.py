"""Data sections for safety genes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.paths import missing_path
from trainer.config.section import section
from trainer.data.check import unreadable
from trainer.data.columns import InstructionColumns
from trainer.data.formats.chat import read_examples
from trainer.data.instructions import draw, read_instructions
from trainer.data.preferences import Preference
from trainer.errors import DataError
from trainer.items import Item

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@dataclass(frozen=True)
class GeneSets:
    """What a gene is made with.

    Attributes:
        aligning: to align the run's model with first; empty where it is aligned.
        degrading: harmless examples, and the few that do harm.
        harmful, harmless: prompts to distil on.
        contrast: harmful and harmless prompts, to choose layers by.
        refusals: of harmful prompts, to recalibrate by.
        safety: refusals of other prompts, and harmless examples, to fine-tune safety with.
        tasks: name -> examples.
        probes: attacks (and capability tasks) by which the degradation is measured.
    """

    aligning: list[Preference]
    degrading: list[Preference]
    harmful: list[str]
    harmless: list[str]
    contrast: tuple[list[str], list[str]]
    refusals: list[Preference]
    safety: list[Preference]
    tasks: dict[str, list[Preference]]
    probes: list[Item]


@section
class GeneData(DataSection):
    """What a safety gene is distilled, chosen and recalibrated with. No prompt is used twice.

    distil: harmful prompts to distil on; benign: harmless ones.
    contrast: prompts of each kind by which layers are chosen.
    degrading: harmless examples that degrade the aligned model; compliant: the harmful ones among them, answered.
    recalibration: refusals, and as many examples of the task, to recalibrate by.
    safety: refusals to fine-tune safety with, and as many harmless examples: of the baselines alone.
    probes: attacks by which the degradation is measured.
    limit: at most so many of each of these, for a quick try.
    """

    distil: int = Field(400, gt=0)
    benign: int = Field(130, gt=0)
    contrast: int = Field(64, gt=1)
    degrading: int = Field(300, gt=0)
    compliant: int = Field(60, ge=0)
    recalibration: int = Field(32, gt=0)
    safety: int = Field(300, gt=0)
    probes: int = Field(200, gt=1)
    limit: int | None = Field(None, gt=1)

    sizes: ClassVar[tuple[str, ...]] = (
        "distil", "benign", "contrast", "degrading", "compliant", "recalibration", "safety", "probes",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in () if self.limit is None else self.sizes:
            object.__setattr__(self, name, min(getattr(self, name), self.limit))  # type: ignore[type-var]  # not None

    @property
    @abstractmethod
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""

    @property
    def aligns(self) -> bool:
        """Whether the run's model has to be aligned first."""
        return False

    @property
    def counted(self) -> dict[str, int | None]:
        """How many examples there are `aligning`, and of each `task`; None where that is not known without reading."""
        return {"aligning": None, "task": None}

    @abstractmethod
    def read(self, seed: int) -> GeneSets:
        """
        Raises:
            DataError: a file cannot be read, or has too few rows for the sizes above.
        """


@section
class GeneFiles(GeneData):
    """Files (jsonl, json, csv, parquet, also .gz), directories of them, or hub datasets.

    harmful: instructions. columns: what its columns are, where the usual names do not say it; see `InstructionColumns`.
    harmless, answered: harmless examples; harmful prompts that are answered. Examples are in the shapes of `data=chat`.
    refusals: harmful prompts that are refused.
    align: examples to align the model with first; null where it is aligned.
    tasks: name -> examples to fine-tune it for a task.
    split: which split of directories that hold several, and of hub datasets.
    """

    format: Literal["gene"]
    harmful: str | None = None
    harmless: str | None = None
    answered: str | None = None
    refusals: str | None = None
    align: str | None = None
    tasks: dict[str, str] = Field(default_factory=dict)
    split: str = "train"
    columns: InstructionColumns | None = None

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    @property
    def aligns(self) -> bool:
        return self.align is not None

    def read(self, seed: int) -> GeneSets:
        assert self.harmful and self.harmless and self.refusals  # checked when the config was loaded
        harmful = draw(self._instructions(), [self.distil, self.contrast, self.probes], seed)
        sizes = [self.benign, self.contrast, self.degrading, self.safety]
        harmless = _draw("harmless", read_examples(self.harmless, self.split), sizes, seed)
        refusals = _draw("refusals", read_examples(self.refusals, self.split), [self.recalibration, self.safety], seed)
        answered = [] if self.answered is None else read_examples(self.answered, self.split)
        return GeneSets(
            aligning=[] if self.align is None else read_examples(self.align, self.split),
            degrading=harmless[2] + _draw("answered", answered, [self.compliant], seed)[0],
            harmful=harmful[0],
            harmless=[example.prompt[-1]["content"] for example in harmless[0]],
            contrast=(harmful[1], [example.prompt[-1]["content"] for example in harmless[1]]),
            refusals=refusals[0],
            safety=refusals[1] + harmless[3],
            tasks={name: read_examples(path, self.split) for name, path in self.tasks.items()},
            probes=[Item(f"probe/{i:04d}", "attack", prompt) for i, prompt in enumerate(harmful[2])],
        )

    def _instructions(self) -> list[str]:
        assert self.harmful  # checked when the config was loaded
        return read_instructions(self.harmful, self.split, harmful=True, columns=self.columns, key="data.columns")

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        problems = []
        needed = {"harmful", "harmless", "refusals"} | ({"answered"} if self.compliant else set())
        for name, path in self.reads().items():
            if path is not None:
                read = self._instructions if name == "harmful" else partial(read_examples, path, self.split)
                missing = missing_path(f"{key}.{name}", path, base_dir)
                problems += missing or unreadable(f"{key}.{name}", path, self, read)
            elif name in needed:
                problems.append(f"{key}.{name}: {key}.format={self.format} needs a file, a directory or a hub name.")
        if not self.tasks:
            problems.append(f"{key}.tasks: name at least one task: {key}.tasks.NAME=<examples>.")
        return problems

    def reads(self) -> dict[str, str | None]:
        own = {name: getattr(self, name) for name in ("harmful", "harmless", "answered", "refusals", "align")}
        return own | {f"tasks.{name}": path for name, path in self.tasks.items()}


def _draw(name: str, examples: Sequence[Preference], sizes: Sequence[int], seed: int) -> list[list[Preference]]:
    """Disjoint random samples, by the last turn of their prompt."""
    by_prompt = {example.prompt[-1]["content"]: example for example in examples}
    try:
        return [[by_prompt[prompt] for prompt in part] for part in draw(list(by_prompt), sizes, seed)]
    except DataError as error:
        raise DataError(f"data.{name}: {error}") from error
