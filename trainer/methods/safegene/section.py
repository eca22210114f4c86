"""SafeGene (arXiv 2606.06519), as a section of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from trainer.config.bases import DataSection, MethodSection
from trainer.config.lora import lora_problems
from trainer.config.models import model_problems
from trainer.config.paths import PLAIN_NAME
from trainer.config.run import to_mapping
from trainer.config.section import section
from trainer.config.stage import Footprint, Stage, Training, TrlSection
from trainer.data.formats.gene import GeneData
from trainer.items import BASE, Contender
from trainer.methods.pairs.section import SFT
from trainer.methods.safegene import names
from trainer.methods.safegene.names import ALIGNED, DEGRADE, GENE, MEASURE, SAFETY, SELECT, Baseline, Choice, Control

if TYPE_CHECKING:
    from trainer.config.depends import Depends
    from trainer.config.run import RunConfig

_PACKAGE = "trainer.methods.safegene"
_OWN_LOSS = {
    "gradient_checkpointing": "the method: it reads hidden states of every layer",
    "label_smoothing_factor": "nothing: the loss is the method's own",
}
DISTIL = TrlSection("transformers:TrainingArguments", _OWN_LOSS)
RECALIBRATE = TrlSection("transformers:TrainingArguments", _OWN_LOSS)
# Of LoRA, a gene has what is one low-rank product per layer.
_NOT_IN_A_GENE = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "trainable_token_indices", "bias")
_READ_UNALIGNED = ("safelora", "safemerge")


@section
class TuningSection:
    """A stage of supervised fine-tuning.

    learning_rate, num_train_epochs, max_steps: null is that of the sft section.
    """

    learning_rate: float | None = Field(None, gt=0)
    num_train_epochs: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, gt=0)

    @property
    def fields(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("learning_rate", "num_train_epochs", "max_steps")}
        return {name: value for name, value in own.items() if value is not None}


@section
class DegradeSection(TuningSection):
    """The light fine-tune that costs the aligned model its safety.

    lora: fields of peft.LoraConfig: then the aligned model is the degraded one without its adapter, and teacher and student of
        the gene are one copy of the weights; null trains all weights, and the teacher is a second model.
    band: by how much attack success must rise, as shares; a run whose degradation is outside ends there.
    max_loss: how much of its capability it may lose, where the data has such tasks.
    """

    lora: dict[str, Any] | None = Field(default_factory=lambda: {"r": 16})
    band: tuple[float, float] = (0.2, 0.5)
    max_loss: float = Field(0.05, ge=0)


@section
class GeneSection:
    """The distillation of the gene.

    lora: fields of peft.LoraConfig; without target_modules, all linear layers.
    mu: weight of the distance between hidden states, beside the KL divergence (nats).
    """

    lora: dict[str, Any] = Field(default_factory=lambda: {"r": 8})
    mu: float = Field(1.0, ge=0)


@section
class SelectSection:
    """Which layers are kept.

    by: `contrast` of activations, or a control: `weight_norm` of the gene, `random`, `bottom` (least contrast) or `all`.
    layers: how many.
    gamma: how much a change on harmless prompts counts against a layer.
    batch_size: prompts in one forward pass on one rank.
    """

    by: Choice = "contrast"
    layers: int = Field(8, gt=0)
    gamma: float = Field(1.0, ge=0)
    batch_size: int = Field(32, gt=0)


@section
class RecalibrateSection:
    """One scalar per kept layer, in a task model.

    eta: weight of the KL divergence (nats) to the task model itself, on its task.
    rho: weight of ||alpha - 1||^2.
    """

    eta: float = Field(1.0, ge=0)
    rho: float = Field(0.01, ge=0)


@section
class TaskSection(TuningSection):
    """Fine-tuning for a task. lora: fields of peft.LoraConfig; null trains all weights."""

    lora: dict[str, Any] | None = Field(default_factory=lambda: {"r": 16})


@section
class BaselineSection:
    """Constants of the baselines.

    gamma: RESTA's, of W_A - W_D.
    tau: SafeLoRA's and SafeMERGE's, a cosine. share: SafeMERGE's, of the task model.
    safety_rank: SaLoRA's, of the subspace of every layer's outputs that the task may not touch.
    """

    gamma: float = 0.5
    tau: float = Field(0.35, ge=-1, le=1)
    share: float = Field(0.8, ge=0, le=1)
    safety_rank: int = Field(32, gt=0)


@section
class SafeGeneMethod(MethodSection):
    """A safety adapter, distilled once and re-expressed in models that are fine-tuned for a task (arXiv 2606.06519).

    align: fine-tuning that makes the run's model the aligned one, where the data has examples for that.
    degrade, gene, select, task, recalibrate: the steps.
    controls: variants of the gene to compare with: `alpha_one` (not recalibrated), `global_alpha`, other layers (`random`,
        `bottom`, `all`, `weight_norm`), and `on_aligned`, distilled on the aligned model itself.
    baselines: `resta`, `safelora`, `safemerge`, `salora`, and `safety_tuning`, safety fine-tuning of every task model.
    constants: of the baselines.
    unaligned: the model before it was aligned, a directory or a hub name, which SafeLoRA and SafeMERGE read; null is the
        run's model, where the run aligns it.
    merge: write every task model with its gene as a model, rather than as an adapter beside the task model.
    guardrail: directory of a DSA guardrail of the run's model: then compare the gene gated by it, per prompt.
    """

    name: Literal["safegene"] = "safegene"
    align: TuningSection = Field(default_factory=TuningSection)  # type: ignore[arg-type]
    degrade: DegradeSection = Field(default_factory=DegradeSection)  # type: ignore[arg-type]
    gene: GeneSection = Field(default_factory=GeneSection)  # type: ignore[arg-type]
    select: SelectSection = Field(default_factory=SelectSection)  # type: ignore[arg-type]
    task: TaskSection = Field(default_factory=TaskSection)  # type: ignore[arg-type]
    recalibrate: RecalibrateSection = Field(default_factory=RecalibrateSection)  # type: ignore[arg-type]
    controls: list[Control] = Field(default_factory=list)
    baselines: list[Baseline] = Field(default_factory=list)
    constants: BaselineSection = Field(default_factory=BaselineSection)  # type: ignore[arg-type]
    unaligned: str | None = None
    merge: bool = True
    guardrail: str | None = None

    trl: ClassVar[Mapping[str, TrlSection]] = {"sft": SFT, "distil": DISTIL, "recalibrate": RECALIBRATE}
    data: ClassVar[type[DataSection]] = GeneData
    data_words: ClassVar[str] = "data=gene or data=sandbox_gene"
    made_of_base: ClassVar[str | None] = f"{_PACKAGE}.contenders:made_of_base"
    measures: ClassVar[str | None] = f"{_PACKAGE}.measured:measure"
    tables: ClassVar[str | None] = f"{_PACKAGE}.tables:tables"

    def aligned_stage(self, config: RunConfig) -> str | None:
        """The stage that leaves the aligned model; None where it is the run's."""
        return ALIGNED if getattr(config.data, "aligns", False) else None

    def tasks(self, config: RunConfig) -> tuple[str, ...]:
        return tuple(getattr(config.data, "task_names", ()))

    def recalibrations(self) -> tuple[str, ...]:
        """Which scalars are trained for every task: "" are the method's own."""
        return ("", *(control for control in names.RECALIBRATED if control in self.controls))

    def training(self, config: RunConfig) -> tuple[Training, ...]:
        aligned, lora = self.aligned_stage(config), self.gene.lora
        stages = [] if aligned is None else [Training(ALIGNED, "sft", fields=self.align.fields)]
        stages.append(Training(DEGRADE, "sft", base=aligned, fields=self.degrade.fields, lora=self.degrade.lora))
        beside = aligned if self.degrade.lora is not None else DEGRADE
        stages.append(Training(GENE, "distil", base=beside, lora=lora))
        if names.ON_ALIGNED in self.controls:
            own = names.ON_ALIGNED
            stages.append(Training(names.ON_ALIGNED_STAGE, "distil", own, base=aligned, lora=lora))
        tuned = self.task.fields
        if "safemerge" in self.baselines:
            stages.append(Training(SAFETY, "sft", "safemerge", base=aligned, fields=tuned, lora=self.task.lora))
        for task in self.tasks(config):
            trained = names.task_stage(task)
            stages.append(Training(trained, "sft", names.NONE, base=aligned, fields=tuned, lora=self.task.lora))
            for control in self.recalibrations():
                name = names.recalibrate_stage(task, control)
                stages.append(Training(name, "recalibrate", control or names.OWN, base=trained))
            if "salora" in self.baselines:
                name = names.salora_stage(task)
                stages.append(Training(name, "sft", "salora", base=aligned, fields=tuned, lora=self.task.lora))
            if "safety_tuning" in self.baselines:
                name = names.tuned_stage(task)
                stages.append(Training(name, "sft", "safety_tuning", base=trained, fields=tuned, lora=self.task.lora))
        return tuple(stages)

    def untrained(self, config: RunConfig) -> tuple[str, ...]:
        directions = (names.DIRECTIONS,) if "salora" in self.baselines else ()
        return ("data", MEASURE, SELECT, *directions, *map(names.merge_stage, self.tasks(config)))

    def stages(self, config: RunConfig, depends: Depends) -> list[Stage]:
        """Data; the aligned and the degraded model, measured; the gene and its layers; and for every task a model, its scalars,
        what becomes of both, and the baselines that are trained."""
        values, model, start = to_mapping(config)["method"], depends.reads("model."), depends.start
        training = {one.stage: one for one in self.training(config)}
        begun = (*start, "data", *([ALIGNED] if ALIGNED in training else []))
        settings = depends.settings("data", "model")
        reads = depends.reads("model.", "data.")
        stages = [Stage("data", f"{_PACKAGE}.stage_data:run", start, settings, reads, distributed=False, compared=False)]

        def add(name: str, work: str, after: tuple[str, ...], **how: Any) -> None:
            one = training.get(name)
            sections = () if one is None else ("trainer", "deepspeed", one.section)
            said = {"how": how} | ({} if one is None else {"fields": dict(one.fields), "lora": one.lora})
            settings = depends.settings("model", *sections, **said)
            stages.append(Stage(name, f"{_PACKAGE}.{work}:run", after, settings, model, training=one))

        def judged(name: str, work: str, after: tuple[str, ...], *sections: str, **how: Any) -> None:
            settings = depends.settings("model", "data", *sections, how=how)
            stages.append(Stage(name, f"{_PACKAGE}.{work}:run", after, settings, depends.reads("model.", "data.", "judge.")))

        if ALIGNED in training:
            add(ALIGNED, "stage_sft", (*start, "data"))
        add(DEGRADE, "stage_sft", begun)
        band = {"band": list(self.degrade.band), "max_loss": self.degrade.max_loss}
        judged(MEASURE, "stage_measure", (*begun, DEGRADE), "generation", "judge", **band)
        measured = (*begun, DEGRADE, MEASURE)
        add(GENE, "stage_gene", measured, mu=self.gene.mu)
        if names.ON_ALIGNED_STAGE in training:
            add(names.ON_ALIGNED_STAGE, "stage_gene", measured, mu=self.gene.mu)
        add(SELECT, "stage_select", (*measured, GENE), select=values["select"])
        if SAFETY in training:
            add(SAFETY, "stage_sft", begun)
        if "salora" in self.baselines:
            add(names.DIRECTIONS, "stage_directions", begun, rank=self.constants.safety_rank)
        for task in self.tasks(config):
            tuned = names.task_stage(task)
            add(tuned, "stage_sft", begun)
            expressed = (*begun, SELECT, tuned)
            for control in self.recalibrations():
                how = {"recalibrate": values["recalibrate"], "control": control, "select": values["select"]}
                add(names.recalibrate_stage(task, control), "stage_recalibrate", expressed, **how)
            add(names.merge_stage(task), "stage_merge", (*expressed, names.recalibrate_stage(task)), merge=self.merge)
            if (salora := names.salora_stage(task)) in training:
                add(salora, "stage_sft", (*begun, names.DIRECTIONS))
            if (again := names.tuned_stage(task)) in training:
                add(again, "stage_sft", (*begun, tuned))
        return stages

    def own(self, config: RunConfig, labels: Sequence[str]) -> str | None:
        return own if (own := names.label(names.MEAN, names.OWN)) in labels else super().own(config, labels)

    def comes_from(self, config: RunConfig, weights: str) -> tuple[str, ...]:
        of_task, _, row = weights.partition("/")
        tasks = self.tasks(config) if of_task == names.MEAN else [of_task]
        made = {
            names.NONE: names.task_stage, names.OWN: names.recalibrate_stage, names.GATED: names.recalibrate_stage,
            "salora": names.salora_stage, "safety_tuning": names.tuned_stage,
        }  # fmt: skip
        if row in made:
            return tuple(made[row](task) for task in tasks)
        return tuple(names.recalibrate_stage(task, row) for task in tasks) if row in names.RECALIBRATED else ()

    def reference(self) -> str:
        return names.label(names.MEAN, names.NONE)

    def contenders(self, config: RunConfig) -> list[Contender]:
        found = [BASE] if self.aligned_stage(config) is None else [BASE, Contender(ALIGNED, ALIGNED, shows_config=False)]
        found.append(Contender(DEGRADE, DEGRADE, shows_config=False, variant=True))
        trained = {"salora": names.salora_stage, "safety_tuning": names.tuned_stage}
        for task in self.tasks(config):
            rows = [names.NONE, *dict.fromkeys(self.baselines), *dict.fromkeys(self.controls)]
            rows += [names.GATED] if self.guardrail is not None else []
            for row in rows:
                name = names.label(task, row)
                stage = names.task_stage(task) if row == names.NONE else trained[row](task) if row in trained else name
                found.append(Contender(name, stage, shows_config=False, variant=True, task=task))
            own = names.label(task, names.OWN)
            found.append(Contender(own, own, shows_config=False, task=task))
        return found

    def talked_to(self, config: RunConfig) -> str:
        return names.merge_stage(self.tasks(config)[-1])

    def problems(self, config: RunConfig, base_dir: Path) -> list[str]:
        problems = [f"data.tasks: {task!r} names directories and metrics; use letters, digits, - and _."
                    for task in self.tasks(config) if not PLAIN_NAME.fullmatch(task)]  # fmt: skip
        if config.model.lora is not None:
            problems.append(
                "model.lora: method=safegene has an adapter for each step: method.task.lora and the like; remove it."
            )
        for key, lora in (("degrade", self.degrade.lora), ("gene", self.gene.lora), ("task", self.task.lora)):
            problems += lora_problems(f"method.{key}.lora", lora)
        for key, lora in (("degrade", self.degrade.lora), ("gene", self.gene.lora)):
            problems += [f"method.{key}.lora.{name}: is more than one low-rank product per layer; remove it."
                         for name in _NOT_IN_A_GENE if (lora or {}).get(name) not in (None, False, "none")]  # fmt: skip
        if not 0 <= self.degrade.band[0] < self.degrade.band[1] <= 1:
            problems.append("method.degrade.band: must be two shares, the lower first, such as [0.2, 0.5].")
        if "salora" in self.baselines and self.task.lora is None:
            problems.append("method.baselines: salora is a way to train LoRA; set method.task.lora, or leave it out.")
        if self.unaligned is None and self.aligned_stage(config) is None:
            problems += [f"method.baselines: {name} needs method.unaligned, the model before it was aligned; set it, or leave "
                         f"{name} out." for name in _READ_UNALIGNED if name in self.baselines]  # fmt: skip
        if self.unaligned is not None:
            problems += model_problems("method.unaligned", self.unaligned, base_dir)
        if self.guardrail is not None and not (base_dir / Path(self.guardrail).expanduser() / "adapter.json").exists():
            problems.append(f"method.guardrail: {self.guardrail} holds no guardrail; give the stage directory of a run of dsa.")
        if config.model.random_init is not None:
            problems.append("model.random_init: method=safegene needs a model that has something to lose; set model.path.")
        return problems

    def reads(self) -> dict[str, str | None]:
        return {"unaligned": self.unaligned, "guardrail": self.guardrail}

    def footprint(self, config: RunConfig, training: Training) -> Footprint:
        """Counted: the teacher's pass, of a gene, and that of the task model itself, of a recalibration. Not counted: the
        hidden states of all layers that both keep."""
        if training.section == "distil":
            second = self.degrade.lora is None and training.stage == GENE
            return Footprint(second_model=second, forwards=1)
        return Footprint(sequences=2, forwards=1) if training.section == "recalibrate" else Footprint()

    def examples(self, config: RunConfig) -> dict[str, int | None]:
        data = config.data
        assert isinstance(data, GeneData)  # checked when the config was loaded
        of_section = {"distil": data.distil + data.benign, "recalibrate": data.recalibration}
        aligning, task, safety = data.counted["aligning"], data.counted["task"], 2 * data.safety
        of_stage = {ALIGNED: aligning, DEGRADE: data.degrading + data.compliant, SAFETY: safety}
        again = None if task is None else safety + min(safety, task)
        of_variant = {names.NONE: task, "salora": task, "safety_tuning": again}
        known = of_section | of_stage | of_variant
        return {
            one.stage: next((known[key] for key in (one.stage, one.variant, one.section) if key in known), None)
            for one in self.training(config)
        }

    def written_models(self) -> int:
        return int(self.merge)
