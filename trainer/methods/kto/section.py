"""Kahneman-Tversky optimisation, as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.config.bases import DataSection, MethodSection
from trainer.config.section import section
from trainer.config.stage import Footprint, Stage, Training, TrlSection
from trainer.config.training import stage_fields
from trainer.data.formats.replies import UnpairedData
from trainer.items import IN_CONTEXT, Contender
from trainer.methods.kto.check import LOSSES, estimates_kl, kto_problems
from trainer.methods.pairs.lengths import cuts, max_prompt_tokens
from trainer.methods.pairs.reference import precomputes

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig

KTO = TrlSection(
    "trl:KTOConfig",
    {"label_smoothing_factor": "nothing: TRL's KTO does not read it"},
    frozenset(
        [
            "router_aux_loss_coef", "dataset_num_proc", "max_length", "pad_to_multiple_of", "activation_offloading",
            "disable_dropout", "precompute_ref_log_probs", "precompute_ref_batch_size", "loss_type", "beta", "desirable_weight",
            "undesirable_weight", "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps",
        ]
    ),
    {"loss_type": LOSSES, "train_sampling_strategy": ("sequential", "random")},
)  # fmt: skip


@section
class KtoMethod(MethodSection):
    """KTO alone, from the base itself: replies that are desirable or undesirable, without pairs (arXiv 2402.01306)."""

    name: Literal["kto"] = "kto"

    trl: ClassVar[Mapping[str, TrlSection]] = {"kto": KTO}
    data: ClassVar[type[DataSection]] = UnpairedData
    data_words: ClassVar[str] = "unpaired replies, such as data=sandbox_unpaired"

    def training(self, config: RunConfig) -> tuple[Training, ...]:
        held_out = config.data.held_out if isinstance(config.data, UnpairedData) else {}
        return (Training("kto", "kto", lora=config.model.lora, validation=held_out),)

    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        data, (training,) = config.data, self.training(config)
        assert isinstance(data, UnpairedData)  # checked when the config was loaded
        limits = {"max_prompt_tokens": max_prompt_tokens(config, data, ("kto",)), "cuts": cuts(config, ("kto",))}
        read = depends.settings("data", "model", **limits)
        trained = depends.settings("model", "trainer", "deepspeed", "kto")
        here, start = "trainer.methods.kto", depends.start
        return [
            Stage("data", f"{here}.stage_data:run", start, read, depends.reads("model.", "data."), False, compared=False),
            Stage("kto", f"{here}.stage:run", (*start, "data"), trained, depends.reads("model."), training=training),
        ]

    def contenders(self, config: RunConfig) -> list[Contender]:
        return [*IN_CONTEXT, Contender("kto", "kto")]

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        return [line for training in self.training(config) for line in kto_problems(config, training)]

    def footprint(self, config: RunConfig, training: Training) -> Footprint:
        """Counted: the policy's pass over the mismatched replies of the KL term, which keeps no activations and is over before
        the pass that is learned from, so that it costs time and no memory; and, where the reference's log-probabilities were
        not computed before training, the reference's passes over both. Not counted: computing them before training."""
        fields = stage_fields(config, training)
        passes, kept = 1 + estimates_kl(fields), precomputes(config, training)
        second = training.lora is None and not kept  # with LoRA the reference is the model, its adapter disabled
        return Footprint(second_model=second, forwards=passes - 1 + (0 if kept else passes))

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        data = config.data
        assert isinstance(data, UnpairedData)  # checked when the config was loaded
        return {"kto": len(data.read(config.seed).replies) if data.is_here else None}
