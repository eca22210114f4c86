"""SafeSteer (arXiv 2606.02530), as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field

from trainer.config.bases import DataSection, MethodSection
from trainer.config.run import to_mapping
from trainer.config.section import section
from trainer.config.stage import Footprint, Rollout, Stage, Training, TrlSection
from trainer.config.training import accumulation_steps, batch_fields_are_sound, config_class, micro_batch_size, stage_fields
from trainer.config.zero import zero_stage
from trainer.data.formats.instructions import InstructionData
from trainer.items import BASE, Contender
from trainer.methods.safesteer.losses import TILE_TOKENS, TILE_VOCABULARY, LossKind

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig

Ablation = Literal["full_vocab", "forward_kl", "renormalised", "random_tokens"]

_AT_TEMPERATURE_1 = "the method, which trains on the model's own samples at temperature 1"
_NO_VLLM = "nothing: samples are drawn by transformers with its cache"
ON_POLICY = TrlSection(
    "trl:DistillationConfig",
    {
        "beta": "method.loss",
        "teacher_model_name_or_path": "method.teacher",
        "teacher_model_revision": "method.teacher",
        "teacher_model_init_kwargs": "method.teacher",
        "chat_template_kwargs": "model.chat_template_kwargs",
        "max_tool_calling_iterations": "nothing: the method has no tools",
        **dict.fromkeys(("log_completions", "num_completions_to_print", "log_unique_prompts"), "the tracking group"),
        **dict.fromkeys(
            ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs"), _AT_TEMPERATURE_1
        ),
        **dict.fromkeys(("cache_implementation", "use_vllm", "vllm_*"), _NO_VLLM),
        "label_smoothing_factor": "nothing: the student learns a distribution, not labels",
        "neftune_noise_alpha": "nothing: the student would sample with the noise too",
        "train_sampling_strategy": "the method, which samples several replies to a prompt side by side",
    },
    frozenset(
        ["max_completion_length", "ds3_gather_for_generation", "shuffle_dataset", "pad_to_multiple_of", "disable_dropout"]
    ),
)


@dataclass(frozen=True)
class Variant:
    """What an ablation changes: the loss (None is that of the run), or the tokens for as many random ones."""

    loss: LossKind | None = None
    random_tokens: bool = False


ABLATIONS: dict[Ablation, Variant] = {
    "full_vocab": Variant("full"),
    "forward_kl": Variant("forward"),
    "renormalised": Variant("renormalised"),
    "random_tokens": Variant(random_tokens=True),
}
assert set(ABLATIONS) == set(get_args(Ablation))


@section
class DirectionSection:
    """The refusal direction (SafeSteer, arXiv 2606.02530).

    path: the directory of a direction found before, for the same base model; null finds one.
    refusal_tokens: the first tokens of a refusal, as texts of one token each; null finds them from the tokenizer and
        verifies them on the base's replies.
    max_kl, min_induce, max_depth: a candidate is discarded whose ablation changes harmless prompts by more (KL, nats),
        whose addition to harmless prompts gives a lower refusal score, or that lies at this share of the layers or later.
    batch_size: prompts in one forward pass on one rank.
    """

    path: str | None = None
    refusal_tokens: list[str] | None = None
    max_kl: float = Field(0.1, gt=0)
    min_induce: float = 0.0
    max_depth: float = Field(0.8, gt=0, le=1)
    batch_size: int = Field(32, gt=0)

    def layers(self, count: int) -> int:
        """How many of `count` layers may be taken."""
        return int(self.max_depth * count)


@section
class TokensSection:
    """The safety tokens S: those that the teacher raises most over the base.

    path: the directory of a set chosen before, for the same base model; null votes.
    chosen: `vote`, or `random`: as many tokens drawn at random (an ablation).
    rollouts, horizon: samples per harmless prompt (those of data.direction and data.validation), and tokens of each.
    sampled_from: whose samples: the teacher's, or the base's (an ablation).
    votes, size: each step votes for so many tokens; the set holds so many.
    min_probability: a step does not vote for tokens to which the teacher gives less.
    batch_size: samples in one forward pass on one rank.
    """

    path: str | None = None
    chosen: Literal["vote", "random"] = "vote"
    rollouts: int = Field(8, gt=0)
    horizon: int = Field(7, gt=0)
    sampled_from: Literal["teacher", "base"] = "teacher"
    votes: int = Field(200, gt=0)
    size: int = Field(50, gt=0)
    min_probability: float = Field(1e-8, ge=0)
    batch_size: int = Field(32, gt=0)


@section
class SafeSteerMethod(MethodSection):
    """Distillation from a steered copy of the base, through the safety tokens, on the student's samples (arXiv 2606.02530).

    teacher: `copy`, a second model, sharded by ZeRO-3 where that is on; `shared`, the student's own weights with its LoRA
        adapter off (needs model.lora): no second model.
    system_prompt: where set, the teacher is the base under this system prompt instead of steered (an ablation).
    export_teacher: also write the teacher as a model without hooks, where its architecture can carry that.
    loss: `slice` (the paper's), `renormalised` on S, `full` vocabulary, or `forward` KL on S.
    rollouts: samples of the student per prompt and step.
    ablations: train these too, from the same teacher and tokens, and compare all.
    """

    name: Literal["safesteer"] = "safesteer"
    direction: DirectionSection = Field(default_factory=DirectionSection)
    teacher: Literal["copy", "shared"] = "copy"
    system_prompt: str | None = None
    export_teacher: bool = False
    tokens: TokensSection = Field(default_factory=TokensSection)
    loss: LossKind = "slice"
    rollouts: int = Field(8, gt=0)
    ablations: list[Ablation] = Field(default_factory=list)

    trl: ClassVar[Mapping[str, TrlSection]] = {"on_policy": ON_POLICY}
    data: ClassVar[type[DataSection]] = InstructionData
    data_words: ClassVar[str] = "data=instructions or data=sandbox_instructions"
    made_of_base: ClassVar[str | None] = "trainer.methods.safesteer.teacher:steered_base"

    def training(self, config: RunConfig) -> tuple[Training, ...]:
        lora = config.model.lora
        own = Training("student", "on_policy", lora=lora)
        return (own, *(Training(f"student_{name}", "on_policy", name, lora=lora) for name in dict.fromkeys(self.ablations)))

    def untrained(self, config: RunConfig) -> tuple[str, ...]:
        return ("data", *(("direction",) if self.system_prompt is None else ()), "teacher", "tokens")

    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        """Direction, teacher, safety tokens, distillation; a teacher by system prompt needs no direction."""
        values, model = to_mapping(config)["method"], depends.reads("model.")
        before: tuple[str, ...] = (*depends.start, "data")
        drawn, reads = depends.settings("data", "model"), depends.reads("model.", "data.")
        package = "trainer.methods.safesteer"
        stages = [Stage("data", f"{package}.stage_prompts:run", depends.start, drawn, reads, distributed=False, compared=False)]

        def add(name: str, settings: dict[str, Any], reads: dict[str, str]) -> None:
            nonlocal before
            stages.append(Stage(name, f"{package}.stage_{name}:run", before, settings, reads))
            before = (*before, name)

        if self.system_prompt is None:
            found = depends.settings("model", direction=values["direction"])
            add("direction", found, depends.reads("model.", "method.direction."))
        taught = depends.settings("model", system_prompt=self.system_prompt, export=self.export_teacher)
        if self.system_prompt is not None:
            taught["refusal_tokens"] = self.direction.refusal_tokens
        add("teacher", taught, model)
        add("tokens", depends.settings("model", tokens=values["tokens"]), depends.reads("model.", "method.tokens."))
        how = {key: values[key] for key in ("loss", "rollouts", "teacher")}
        for one in self.training(config):
            trained = depends.settings("model", "trainer", "deepspeed", one.section, how=how)
            stages.append(Stage(one.stage, f"{package}.stage_student:run", before, trained, model, training=one))
        return stages

    def contenders(self, config: RunConfig) -> list[Contender]:
        asked = set(self.ablations)
        variants = [Contender(name, f"student_{name}", variant=True) for name in ABLATIONS if name in asked]
        return [BASE, Contender("teacher", "teacher", system=self.system_prompt), Contender("safesteer", "student"), *variants]

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        problems = []
        if self.teacher == "shared" and config.model.lora is None:
            problems.append(
                "method.teacher: shared takes the student's weights without its adapter; set model.lora, or "
                "method.teacher=copy."
            )
        for key, path in self.reads().items():
            if path is not None and not (base_dir / Path(path).expanduser()).is_dir():
                problems.append(f"method.{key}: {path} is not a directory; give the stage directory of an earlier run.")
        if self.export_teacher and self.system_prompt is not None:
            problems.append("method.export_teacher: a teacher by system prompt is the base itself; remove this key.")
        if len(set(self.ablations)) < len(self.ablations):
            problems.append("method.ablations: names one twice; remove it there.")
        own = self.training(config)[0]
        if isinstance(config.data, InstructionData) and batch_fields_are_sound(config, own):
            rows, world = config.data.limit * self.rollouts, config.launcher.world_size(own.stage)
            with suppress(ValueError):  # a batch that does not divide is reported elsewhere
                batch = micro_batch_size(config, own) * accumulation_steps(config, own, world) * world
                if rows < batch:
                    problems.append(
                        f"data.limit: {config.data.limit} prompts x method.rollouts={self.rollouts} do not fill one step "
                        f"of {batch} samples; raise one of the two, or lower trainer.train_batch_size."
                    )
        return problems

    def reads(self) -> dict[str, str | None]:
        return {"direction.path": self.direction.path, "tokens.path": self.tokens.path}

    def loss_of(self, training: Training) -> LossKind:
        """The loss of one of its training stages."""
        return (ABLATIONS[training.variant].loss if training.variant in ABLATIONS else None) or self.loss

    def footprint(self, config: RunConfig, training: Training) -> Footprint:
        assert isinstance(config.data, InstructionData)  # checked when the config was loaded
        fields, defaults = stage_fields(config, training), config_class(training.section)

        def field(name: str) -> Any:
            return fields.get(name, getattr(defaults, name, None))

        accumulation = accumulation_steps(config, training, config.launcher.world_size(training.stage))
        completion = int(field("max_completion_length"))
        rollout = Rollout(
            completion=completion,
            samples=micro_batch_size(config, training) * accumulation,
            tiles=3 if self.loss_of(training) == "full" else 2,
            tile_tokens=TILE_TOKENS,
            tile_words=TILE_VOCABULARY,
            gathers=zero_stage(config) == 3 and bool(field("ds3_gather_for_generation")),
        )
        return Footprint(
            length=config.data.max_prompt_length + completion,
            second_model=self.teacher == "copy",
            forwards=1,  # the teacher's
            rollout=rollout,
        )

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        assert isinstance(config.data, InstructionData)  # checked when the config was loaded
        return dict.fromkeys((one.stage for one in self.training(config)), config.data.limit * self.rollouts)

    def written_models(self) -> int:
        return int(self.export_teacher)

    def cheaper(self, config: RunConfig) -> dict[str, Any]:
        return {"teacher": "shared"} if self.teacher == "copy" and config.model.lora is not None else {}
