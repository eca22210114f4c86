"""What methods have in common that train on preference pairs, stage after stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.config.bases import DataSection, MethodSection
from trainer.config.fields import TOKENIZER
from trainer.config.section import section
from trainer.config.stage import Footprint, Stage, Training, TrlSection
from trainer.data.formats.pairs import DemonstrationData, PreferenceData
from trainer.data.holdout import hold_out
from trainer.data.preferences import dpo_examples, sft_examples
from trainer.items import IN_CONTEXT, Contender
from trainer.methods.pairs.check import DPO_LOSSES, dpo_problems, sft_problems
from trainer.methods.pairs.lengths import cuts, max_prompt_tokens
from trainer.methods.pairs.reference import precomputes

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig

_PASSED = [
    "router_aux_loss_coef",
    "dataset_num_proc",
    "max_length",
    "truncation_mode",
    "pad_to_multiple_of",
    "activation_offloading",
]
_CUTS = ("keep_start", "keep_end")
SFT = TrlSection(
    "trl:SFTConfig",
    {
        "chat_template_path": "model.tokenizer: the data stage has counted with its template",
        "dataset_text_field": "the data group",
        "dataset_kwargs": "the data group",
        "eval_packing": "sft.packing: rows that are held out are packed as those that are trained on",
        "assistant_only_loss": "nothing: the loss counts the reply that a row ends with (completion_only_loss)",
        **dict.fromkeys(("eos_token", "pad_token"), TOKENIZER),
    },
    frozenset(
        [*_PASSED, *["shuffle_dataset", "packing", "packing_strategy", "padding_free", "completion_only_loss", "loss_type"]]
    ),
    {
        "loss_type": ("nll", "dft"),
        "truncation_mode": _CUTS,
        "packing_strategy": ("bfd", "bfd_split", "wrapped"),
        "train_sampling_strategy": ("random", "sequential", "group_by_length", "batch_rebalance"),
    },
)
DPO = TrlSection(
    "trl:DPOConfig",
    {
        "padding_free": "nothing: TRL has switched it off",
        "pad_token": TOKENIZER,
        "label_smoothing_factor": "dpo.label_smoothing",
    },
    frozenset(
        [
            *_PASSED, "disable_dropout", "precompute_ref_log_probs", "precompute_ref_batch_size", "loss_type", "loss_weights",
            "ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "label_smoothing", "beta", "use_weighting",
            "discopop_tau", "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps",
        ]
    ),
    {
        "loss_type": DPO_LOSSES,
        "truncation_mode": _CUTS,
        "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
    },
)  # fmt: skip
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
        lora, data = config.model.lora, config.data
        held_out = data.held_out if isinstance(data, DemonstrationData) else {}
        return tuple(
            Training(name, name, base=before, lora=lora, validation=held_out)
            for name, before in zip(names, [None, *names[:-1]], strict=True)
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
        found = {"sft": sft_problems, "dpo": dpo_problems}
        return [line for one in self.training(config) for line in found[one.section](config, one)]

    def footprint(self, config: RunConfig, training: Training) -> Footprint:
        if training.section == "sft":
            return Footprint()
        whole = training.lora is None  # else the reference is the model itself, its adapter disabled
        kept = precomputes(config, training)  # before training: in no step
        return Footprint(sequences=2, second_model=whole and not kept, forwards=0 if kept else 1)

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        pairs = config.data
        assert isinstance(pairs, DemonstrationData)  # checked when the config was loaded
        if not pairs.is_here:
            return super().examples(config)
        found = pairs.read(config.seed).pairs
        if isinstance(pairs.validation, (int, float)):
            found, _ = hold_out(found, pairs.validation, config.seed)
        made: dict[str, Any] = {"sft": sft_examples, "dpo": dpo_examples}
        by_part = {part: [pair for pair in found if pair.part == part] for part in pairs.shares}
        return {
            one.stage: len(pairs.epoch({part: list(made[one.section](rows)) for part, rows in by_part.items()}, config.seed))
            for one in self.training(config)
        }
