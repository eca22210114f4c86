"""What methods have in common that train on preference pairs, stage after stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from trainer.config.bases import DataSection, MethodSection
from trainer.config.section import section
from trainer.config.stage import Footprint, Stage, Training, TrlSection
from trainer.config.training import stage_fields
from trainer.config.zero import zero_stage
from trainer.data.formats.pairs import DemonstrationData, PreferenceData
from trainer.data.preferences import dpo_examples, sft_examples
from trainer.items import IN_CONTEXT, Contender
from trainer.methods.pairs.lengths import cuts, max_prompt_tokens

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig

SFT, DPO = TrlSection("trl:SFTConfig"), TrlSection("trl:DPOConfig")
_WORK = {"sft": "trainer.methods.sft.stage:run", "dpo": "trainer.methods.dpo.stage:run"}


@section
class PairsMethod(MethodSection):
    """SFT, DPO, or one after the other."""

    data: ClassVar[type[DataSection]] = PreferenceData
    data_words: ClassVar[str] = "preference pairs, such as data=sandbox"

    @property
    @abstractmethod
    def trained(self) -> Mapping[str, str]:
        """Its training stages, each called as its section -> the label of the model that it leaves."""

    def training(self, config: RunConfig) -> tuple[Training, ...]:
        names = list(self.trained)
        lora = config.model.lora
        return tuple(
            Training(name, name, base=before, lora=lora) for name, before in zip(names, [None, *names[:-1]], strict=True)
        )

    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        pairs = config.data
        assert isinstance(pairs, DemonstrationData)  # checked when the config was loaded
        training = self.training(config)
        names = tuple(one.stage for one in training)
        limits = {"max_prompt_tokens": max_prompt_tokens(config, pairs), "cuts": cuts(config)}
        settings = depends.settings("data", "model", stages=names, **limits)
        reads = depends.reads("model.", "data.")
        stages = [
            Stage("data", "trainer.methods.pairs.stage:run", depends.start, settings, reads, distributed=False, compared=False)
        ]
        for position, one in enumerate(training):
            before = (*depends.start, "data", *names[:position])
            trained = depends.settings("model", "trainer", "deepspeed", one.section)
            reads = depends.reads("model.tokenizer" if one.base else "model.")
            stages.append(Stage(one.stage, _WORK[one.section], before, trained, reads, training=one))
        return stages

    def contenders(self, config: RunConfig) -> list[Contender]:
        return [*IN_CONTEXT, *(Contender(label, stage) for stage, label in self.trained.items())]

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        return [line for one in self.training(config) if one.section == "dpo" for line in dpo_problems(config, one)]

    def footprint(self, config: RunConfig, training: Training) -> Footprint:
        if training.section == "sft":
            return Footprint()
        whole = training.lora is None  # else the reference is the model itself, its adapter disabled
        kept = stage_fields(config, training).get("precompute_ref_log_probs", whole)  # before training: in no step
        return Footprint(sequences=2, second_model=whole and not kept, forwards=0 if kept else 1)

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        pairs = config.data
        assert isinstance(pairs, DemonstrationData)  # checked when the config was loaded
        if not pairs.is_here:
            return super().examples(config)
        found = pairs.read(config.seed).pairs
        made = {"sft": sft_examples, "dpo": dpo_examples}
        return {one.stage: sum(1 for _ in made[one.section](found)) for one in self.training(config)}


def dpo_problems(config: RunConfig, training: Training) -> list[str]:
    """What TRL's DPO cannot do under this config."""
    if zero_stage(config) == 3 and stage_fields(config, training).get("sync_ref_model"):
        return [
            "dpo.sync_ref_model: the reference is updated from full weights, and ZeRO stage 3 holds shards; "
            "use deepspeed=zero2 or dpo.sync_ref_model=false."
        ]
    return []
