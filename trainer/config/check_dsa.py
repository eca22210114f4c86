"""What the types of `method=dsa` cannot say: which settings contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trainer.config.schema import AdapterSection, DsaMethod, GuardrailEvaluation, LabelledData, PreferenceData, RunConfig
from trainer.suggest import did_you_mean

PLAIN_NAME = re.compile(r"^[A-Za-z0-9][\w-]*$")  # part of directories and of metrics
BASELINES = ("standalone", "full", "prompted")
ALIGNER = "aligner"  # as a baseline's name it would take the aligner's stage
_SIZES = {
    "plr": ("probe_width",),
    "rtb": ("bottleneck",),
    "lst": ("reduction", "every"),
    "lst_plus": ("reduction", "every"),
    "lld": ("last_layers",),
}  # which sizes an adapter has, by kind


def dsa_problems(config: RunConfig) -> list[str]:
    """Everything wrong with the method's own section, and with what only it allows elsewhere."""
    method = config.method
    if not isinstance(method, DsaMethod):
        if isinstance(config.evaluation, GuardrailEvaluation):
            return [f"evaluation: method={method.name} trains no guardrails; choose another evaluation."]
        if isinstance(config.data, LabelledData) and config.data.preferences is not None:
            return [f"data.preferences: method={method.name} trains no aligner; remove this key."]
        return []
    problems = []
    if not method.guardrails and method.aligner is None:
        problems.append(
            "method.guardrails: there is nothing to train; set method.guardrails.NAME.kind=lst, say, or method.aligner."
        )
    if config.model.lora is not None:
        problems.append("model.lora: method=dsa leaves the base as it is and trains adapters beside it; remove model.lora.")
    return problems + _guardrail_problems(method) + _aligner_problems(method, config)


def untrained_stages(method: DsaMethod) -> list[str]:
    """The stages of a run that train nothing, less those that every method may have."""
    there = {
        "data": method.guardrails,
        "features": method.feature_cache is not None,
        "guardrail_prompted": "prompted" in method.baselines,
        "pairs": method.aligner is not None,
    }
    return [stage for stage, is_there in there.items() if is_there]


def _guardrail_problems(method: DsaMethod) -> list[str]:
    problems = _name_problems("method.guardrails", method.guardrails, BASELINES)
    for name, adapter in method.guardrails.items():
        problems += _size_problems(f"method.guardrails.{name}", adapter)
    if len(set(method.baselines)) < len(method.baselines):
        problems.append("method.baselines: names one twice; remove it there.")
    if method.baselines and not method.guardrails:
        problems.append("method.baselines: there is no guardrail to compare with; add one, or remove this key.")
    if "standalone" in method.baselines and all(adapter.kind != "lst" for adapter in method.guardrails.values()):
        problems.append(
            "method.baselines: standalone is as large as a guardrail of kind lst, and there is none; add one, or remove it."
        )
    if method.distill_from is not None and method.distill_from not in method.baselines:
        problems.append(f"method.distill_from: {method.distill_from} is not trained; add it to method.baselines.")
    if method.full_learning_rate is not None and "full" not in method.baselines:
        problems.append("method.full_learning_rate: full is not trained; add it to method.baselines, or remove this key.")
    judge = method.prompted
    if "{prompt}" not in judge.question_prompt or "{response}" in judge.question_prompt:
        problems.append("method.prompted.question_prompt: is asked of a prompt alone; write {prompt} in it, and no {response}.")
    if "{response}" not in judge.question_response:
        problems.append("method.prompted.question_response: is asked of a response; write {response} where it goes.")
    if judge.unsafe == judge.safe:
        problems.append("method.prompted: unsafe and safe are the same answer; set two that differ.")
    if method.feature_cache is not None and not method.guardrails:
        problems.append("method.feature_cache: only guardrails are trained on kept hidden states; remove this key.")
    return problems


def _aligner_problems(method: DsaMethod, config: RunConfig) -> list[str]:
    problems = _name_problems("method.dpo_baselines", method.dpo_baselines, (ALIGNER,))
    for name, baseline in method.dpo_baselines.items():
        if baseline.last_layers is not None and baseline.lora is None:
            problems.append(
                f"method.dpo_baselines.{name}.last_layers: says where LoRA is, and there is none; set lora, or remove it."
            )
    if len(set(method.strengths)) < len(method.strengths) or not method.strengths:
        problems.append("method.strengths: must name at least one strength, and none twice.")
    paired = config.data.preferences if isinstance(config.data, LabelledData) else config.data
    if method.aligner is None:
        for key, given in (
            ("method.strengths", method.strengths != DsaMethod(name="dsa").strengths),  # type: ignore[call-arg]  # pydantic's
            ("method.targeted", method.targeted),
            ("method.dpo_baselines", method.dpo_baselines),
            ("data.preferences", paired),
        ):
            if given:
                problems.append(f"{key}: there is no aligner; set method.aligner.kind=lld, for instance, or remove this key.")
        return problems
    if method.aligner.kind not in ("lst", "lst_plus", "lld"):
        problems.append(f"method.aligner.kind: {method.aligner.kind} cannot align; choose lst, lst_plus or lld.")
    problems += _size_problems("method.aligner", method.aligner)
    if not isinstance(paired, PreferenceData):
        problems.append("data.preferences: the aligner has no pairs; set data.preferences.format and what goes with it.")
    if method.targeted is not None and config.data.format in ("beavertails", "summedits"):
        problems.append(
            f"method.targeted: a guardrail judges prompts there, and {config.data.format} labels only responses; remove it."
        )
    if method.targeted is not None and method.targeted.guardrail not in method.guardrails:
        name = method.targeted.guardrail
        problems.append(f"method.targeted.guardrail: unknown {name!r}; {did_you_mean(name, list(method.guardrails))}")
    if isinstance(config.evaluation, GuardrailEvaluation):
        problems.append("evaluation: guardrails does not ask the aligner anything; choose another evaluation, or none.")
    return problems


def _name_problems(key: str, names: Iterable[str], taken: tuple[str, ...]) -> list[str]:
    return [
        f"{key}.{name}: must be a plain name (letters, digits, _ and -), and not {' or '.join(taken)}."
        for name in names
        if not PLAIN_NAME.match(name) or name in taken
    ]


def _size_problems(key: str, adapter: AdapterSection) -> list[str]:
    """Sizes that were set and that an adapter of this kind does not have."""
    default = AdapterSection(kind=adapter.kind)  # type: ignore[call-arg]  # mypy does not read pydantic's sections
    sizes = [size for of_kind in dict.fromkeys(_SIZES.values()) for size in of_kind]
    changed = [size for size in sizes if getattr(adapter, size) != getattr(default, size)]
    foreign = [size for size in changed if size not in _SIZES[adapter.kind]]
    return [f"{key}.{size}: an adapter of kind {adapter.kind} has no such size; remove it." for size in foreign]
