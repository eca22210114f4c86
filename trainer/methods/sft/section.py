"""Supervised fine-tuning, as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.config.bases import DataSection
from trainer.config.run import to_mapping
from trainer.config.section import section
from trainer.config.stage import Stage, TrlSection
from trainer.data.formats.pairs import DemonstrationData
from trainer.data.formats.rows import ALL
from trainer.methods.pairs.lengths import cuts
from trainer.methods.pairs.rehearsal import ANSWERS, RehearsalSection
from trainer.methods.pairs.section import SFT, PairsMethod

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig


@section
class SftMethod(PairsMethod):
    """SFT alone.

    rehearsal: ordinary instructions whose answers by the base itself are imitated as well; null has none.
    """

    name: Literal["sft"] = "sft"
    rehearsal: RehearsalSection | None = None

    data: ClassVar[type[DataSection]] = DemonstrationData
    data_words: ClassVar[str] = "preference pairs or conversations, such as data=sandbox or data=chat"
    trl: ClassVar[Mapping[str, TrlSection]] = {"sft": SFT}

    @property
    def trained(self) -> Mapping[str, str]:
        return {"sft": "sft"}

    def untrained(self, config: RunConfig) -> tuple[str, ...]:
        return (*(() if self.rehearsal is None else (ANSWERS,)), *super().untrained(config))

    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        stages = super().stages(config, depends)
        if self.rehearsal is None:
            return stages
        settings = depends.settings("model", rehearsal=to_mapping(config)["method"]["rehearsal"], cut=cuts(config))
        reads = depends.reads("model.", "method.rehearsal.")
        asked = Stage(ANSWERS, "trainer.methods.sft.stage_answers:run", depends.start, settings, reads, compared=False)
        data, *training = stages
        return [asked, replace(data, after=(*data.after, ANSWERS)), *training]

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        problems = super().problems(config, base_dir)
        if self.rehearsal is not None:
            problems += self.rehearsal.problems(config.seed, base_dir)
            if isinstance(config.data, DemonstrationData) and list(config.data.shares) != [ALL]:
                problems.append(
                    "method.rehearsal: has no share of a mixture's epoch; take data that is no mixture, or leave it out."
                )
            cut = cuts(config).get("sft")
            if cut is None or cut.mode != "keep_start":
                problems.append(
                    "method.rehearsal: the base's answers are as long as sft.max_length, and cut at their end; set a "
                    "max_length, and leave truncation_mode=keep_start."
                )
        return problems

    def reads(self) -> dict[str, str | None]:
        return {} if self.rehearsal is None else {"rehearsal.path": self.rehearsal.path}

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        more = 0 if self.rehearsal is None else self.rehearsal.limit
        return {stage: None if count is None else count + more for stage, count in super().examples(config).items()}
