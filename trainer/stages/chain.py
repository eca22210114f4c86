"""Which stages a run has, in order, and what each one depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.config.check import looks_local
from trainer.config.load import to_mapping
from trainer.config.outside import outside
from trainer.config.schema import DsaMethod, RunConfig, SafeSteerMethod
from trainer.config.trl_fields import section_of, training_stages
from trainer.doctor import examination
from trainer.doctor.preflight import DOCTOR
from trainer.methods.dsa import stage_align, stage_dpo, stage_features, stage_guardrail, stage_prompted
from trainer.methods.dsa import stage_data as labelled_data
from trainer.methods.dsa.stage_align import ALIGNER_STAGE
from trainer.methods.dsa.stage_guardrail import FULL, PREFIX, PROMPTED, adapter_of, guardrail_of
from trainer.methods.safesteer import stage_direction, stage_distill, stage_prompts, stage_teacher, stage_tokens
from trainer.sandbox import SHIPPED
from trainer.stages import base, data, dpo, evaluate, sft
from trainer.stages.stage import Stage

_LABELLED = ("model.", "data.path", "data.tests.")
_READ_BY_EVALUATION = ("method", "model", "generation", "judge", "evaluation")


def chain(config: RunConfig) -> list[Stage]:
    """The stages of this run, in order."""
    parts = _Parts(config)
    stages = []
    if config.model.random_init is not None:
        stages.append(Stage("base", base.run, (), parts.settings("model"), parts.reads("model."), distributed=False))
    if isinstance(config.method, SafeSteerMethod):
        stages += _safesteer(parts)
    elif isinstance(config.method, DsaMethod):
        stages += _dsa(parts)
    else:
        stages += _preferences(parts)
    if config.evaluation is not None:
        compared = tuple(stage.name for stage in stages if stage.name not in ("data", data.PAIRS))
        reads = parts.reads("model.", "evaluation.", "judge.")
        stages.append(Stage("evaluate", evaluate.run, compared, parts.settings(*_READ_BY_EVALUATION), reads))
    return stages


def stage_named(config: RunConfig, name: str) -> Stage:
    """A stage of the run, or the one that examines the machine and belongs to no chain."""
    if name == DOCTOR:
        return Stage(DOCTOR, examination.run, after=(), settings={}, reads={})
    return next(stage for stage in chain(config) if stage.name == name)


@dataclass(frozen=True)
class _Parts:
    """What stages depend on, by name."""

    config: RunConfig

    def settings(self, *sections: str, **others: Any) -> dict[str, Any]:
        """Whole sections of the config, and other values."""
        values = to_mapping(self.config)
        del values["model"]["shape"]  # only `plan` reads it
        return {"seed": self.config.seed, **{name: values[name] for name in sections}, **others}

    @property
    def start(self) -> tuple[str, ...]:
        return () if self.config.model.random_init is None else ("base",)

    def reads(self, *prefixes: str) -> dict[str, str]:
        """What config keys with these beginnings name; paths expanded, hub names as they are. A shipped base counts by its
        content too: another version of it is another model."""
        found = {key: name for key, name in outside(self.config).items() if key.startswith(prefixes)}
        if (shipped := SHIPPED.get(found.get("model.path", ""))) is not None:
            found["model.path"] = str(shipped)
        return {key: str(Path(name).expanduser()) if looks_local(name) else name for key, name in found.items()}


def _preferences(parts: _Parts) -> list[Stage]:
    """Training on preference pairs: SFT, DPO, or one after the other."""
    config, training = parts.config, training_stages(parts.config)
    settings = parts.settings("data", "model", max_prompt_tokens=data.max_prompt_tokens(config), stages=training)
    stages = [Stage("data", data.run, parts.start, settings, parts.reads("model.", "data."), distributed=False)]
    for position, name in enumerate(training):
        before = (*parts.start, "data", *training[:position])
        work = {"sft": sft.run, "dpo": dpo.run}[name]
        trained = parts.settings("model", "trainer", "deepspeed", name)
        reads = parts.reads("model.tokenizer" if position else "model.")
        stages.append(Stage(name, work, before, trained, reads, trains=True))
    return stages


def _safesteer(parts: _Parts) -> list[Stage]:
    """Direction, teacher, safety tokens, distillation; a teacher by system prompt needs no direction."""
    config = parts.config
    method = config.method
    assert isinstance(method, SafeSteerMethod)
    values, model = to_mapping(config), parts.reads("model.")
    before: tuple[str, ...] = (*parts.start, "data")
    drawn = parts.settings("data", "model")
    stages = [Stage("data", stage_prompts.run, parts.start, drawn, parts.reads("model.", "data."), distributed=False)]

    def add(stage: Stage) -> None:
        nonlocal before
        stages.append(stage)
        before = (*before, stage.name)

    if method.system_prompt is None:
        found = parts.settings("model", direction=values["method"]["direction"])
        add(Stage("direction", stage_direction.run, before, found, parts.reads("model.", "method.direction.")))
    taught = parts.settings("model", system_prompt=method.system_prompt, export=method.export_teacher)
    if method.system_prompt is not None:
        taught["refusal_tokens"] = method.direction.refusal_tokens
    add(Stage("teacher", stage_teacher.run, before, taught, model))
    chosen = parts.settings("model", tokens=values["method"]["tokens"])
    add(Stage("tokens", stage_tokens.run, before, chosen, parts.reads("model.", "method.tokens.")))
    how = {key: values["method"][key] for key in ("loss", "rollouts", "teacher")}
    for name in training_stages(config):
        trained = parts.settings("model", "trainer", "deepspeed", section_of(name), how=how)
        stages.append(Stage(name, stage_distill.run, before, trained, model, trains=True))
    return stages


def _dsa(parts: _Parts) -> list[Stage]:
    """Guardrails on labelled data, an aligner on pairs, or both."""
    method = parts.config.method
    assert isinstance(method, DsaMethod)
    stages = _guardrails(parts, method) if method.guardrails else []
    return [*stages, *(_aligner(parts, method) if method.aligner is not None else [])]


def _guardrails(parts: _Parts, method: DsaMethod) -> list[Stage]:
    """Labelled data, what the base itself says where it is asked, its hidden states where they are kept, and a guardrail after
    another."""
    config = parts.config
    values, model = to_mapping(config)["method"], parts.reads("model.")
    before: tuple[str, ...] = (*parts.start, "data")
    settings = parts.settings("data", "model")
    del settings["data"]["preferences"]
    stages = [Stage("data", labelled_data.run, parts.start, settings, parts.reads(*_LABELLED), distributed=False)]
    if PROMPTED in method.baselines:  # first: a question that does not suit the base is refused before anything trains
        asked = parts.settings("model", prompted=values["prompted"], false_positive_rate=method.false_positive_rate)
        stages.append(Stage(PREFIX + PROMPTED, stage_prompted.run, before, asked, model))
    if method.feature_cache is not None:
        kept = parts.settings("model", guardrails=values["guardrails"])
        stages.append(Stage("features", stage_features.run, before, kept, model))  # nothing depends on it that data does not
    for name in training_stages(config):
        if section_of(name) != "guardrail":
            continue
        guardrail = guardrail_of(name)
        taught = method.distill_from is not None and guardrail in method.guardrails
        how = {
            "adapter": asdict(adapter_of(method, guardrail)),
            "false_positive_rate": method.false_positive_rate,
            "learns_from": method.distill_from if taught else None,
            "teaches": guardrail == method.distill_from,
            "learning_rate": method.full_learning_rate if guardrail == FULL else None,
        }
        after = (*before, f"guardrail_{method.distill_from}") if taught else before
        settings = parts.settings("model", "trainer", "deepspeed", section_of(name), how=how)
        stages.append(Stage(name, stage_guardrail.run, after, settings, model, trains=True))
    return stages


def _aligner(parts: _Parts, method: DsaMethod) -> list[Stage]:
    """Preference pairs, the aligner, and the baselines that DPO makes of the base."""
    config, values = parts.config, to_mapping(parts.config)["method"]
    given = asdict(data.preferences_of(config))  # type: ignore[call-overload]  # pydantic dataclasses are dataclasses
    settings = parts.settings("model", preferences=given, max_prompt_tokens=data.max_prompt_tokens(config))
    reads = parts.reads("model.", "data.preferences.") if method.guardrails else parts.reads("model.", "data.")
    stages = [Stage(data.PAIRS, data.run, parts.start, settings, reads, distributed=False)]
    before, model = (*parts.start, data.PAIRS), parts.reads("model.")
    for name in training_stages(config):
        if section_of(name) != "dpo":
            continue
        aligns = name == ALIGNER_STAGE
        how = values["aligner"] if aligns else values["dpo_baselines"][name.removeprefix(stage_dpo.PREFIX)]
        trained = parts.settings("model", "trainer", "deepspeed", "dpo", how=how)
        work = stage_align.run if aligns else stage_dpo.run
        stages.append(Stage(name, work, before, trained, model, trains=True))
    return stages
