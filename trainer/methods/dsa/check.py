"""What the types of the section cannot say: which settings contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainer.config.lora import lora_problems
from trainer.config.paths import PLAIN_NAME
from trainer.config.run import RunConfig
from trainer.config.training import stage_fields
from trainer.data.formats.labels import LabelledData
from trainer.data.formats.pairs import DemonstrationData, PreferenceData
from trainer.methods.dsa.names import ALIGNER, FULL, PROMPTED, STANDALONE
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from trainer.methods.dsa.section import DsaMethod

_SAME_PASS = "an aligner's reference is the base in the same forward pass"
_NOT_OF_AN_ALIGNER = {
    "precompute_ref_log_probs": _SAME_PASS,
    "sync_ref_model": _SAME_PASS,
    "neftune_noise_alpha": "an aligner reads the base as it is",
    "router_aux_loss_coef": "the experts of the base are frozen, and need no balancing",
}
BASELINES = (STANDALONE, FULL, PROMPTED)
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def pairs_of(config: RunConfig) -> DemonstrationData | None:
    """The section that the aligner's pairs come from: the run's data, or a part of it beside labelled texts."""
    pairs = getattr(config.data, "preferences", config.data)
    return pairs if isinstance(pairs, DemonstrationData) and pairs.gives(PreferenceData) else None


def guardrail_problems(method: DsaMethod) -> list[str]:
    """Everything wrong with the guardrails and what they are compared with."""
    problems = _name_problems("method.guardrails", method.guardrails, BASELINES)
    for name, adapter in method.guardrails.items():
        problems += adapter.problems(f"method.guardrails.{name}")
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


def aligner_problems(method: DsaMethod, config: RunConfig) -> list[str]:
    """Everything wrong with the aligner, what it is trained on and what it is compared with."""
    problems = _name_problems("method.dpo_baselines", method.dpo_baselines, (ALIGNER,))
    for name, baseline in method.dpo_baselines.items():
        problems += lora_problems(f"method.dpo_baselines.{name}.lora", baseline.lora)
        if baseline.last_layers is not None and baseline.lora is None:
            problems.append(
                f"method.dpo_baselines.{name}.last_layers: says where LoRA is, and there is none; set lora, or remove it."
            )
    if len(set(method.strengths)) < len(method.strengths) or not method.strengths:
        problems.append("method.strengths: must name at least one strength, and none twice.")
    paired = pairs_of(config)
    if method.aligner is None:
        for key, given in (
            ("method.strengths", method.strengths != list(STRENGTHS)),
            ("method.targeted", method.targeted),
            ("method.dpo_baselines", method.dpo_baselines),
            ("data.preferences", paired),
        ):
            if given:
                problems.append(f"{key}: there is no aligner; set method.aligner.kind=lld, for instance, or remove this key.")
        return problems
    if method.aligner.kind not in ("lst", "lst_plus", "lld"):
        problems.append(f"method.aligner.kind: {method.aligner.kind} cannot align; choose lst, lst_plus or lld.")
    problems += method.aligner.problems("method.aligner")
    trained = next(one for one in method.training(config) if one.section == "dpo" and one.variant == ALIGNER)
    for name, why in _NOT_OF_AN_ALIGNER.items():
        if stage_fields(config, trained).get(name):
            problems.append(f"dpo.{name}: {why}; remove it, or method.aligner.")
    if paired is None:
        problems.append("data.preferences: the aligner has no pairs; set data.preferences.format and what goes with it.")
    if method.targeted is not None and isinstance(config.data, LabelledData) and not config.data.labels_prompts:
        problems.append(
            f"method.targeted: a guardrail judges prompts there, and {config.data.format} labels only responses; remove it."
        )
    if method.targeted is not None and method.targeted.guardrail not in method.guardrails:
        name = method.targeted.guardrail
        problems.append(f"method.targeted.guardrail: unknown {name!r}; {did_you_mean(name, list(method.guardrails))}")
    if config.evaluation is not None and not any(suite.asks for suite in config.evaluation.members.values()):
        problems.append(
            f"evaluation: {config.evaluation.benchmark} does not ask the aligner anything; choose another evaluation, or none."
        )
    return problems


def _name_problems(key: str, names: Iterable[str], taken: tuple[str, ...]) -> list[str]:
    return [
        f"{key}.{name}: must be a plain name (letters, digits, _ and -), and not {' or '.join(taken)}."
        for name in names
        if not PLAIN_NAME.match(name) or name in taken
    ]
