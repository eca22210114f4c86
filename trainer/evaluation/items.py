"""What is asked in an evaluation, what a judge says of an answer, and which models are compared how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from trainer.config.schema import DsaMethod, RunConfig, SafeSteerMethod
from trainer.config.trl_fields import training_stages

Message = dict[str, str]
Suite = Literal["cosa", "attack", "over_refusal", "capability"]
SHOTS = 5


@dataclass(frozen=True)
class Item:
    """One prompt of an evaluation.

    Attributes:
        suite: `cosa` is scored by CoSA-Score; `attack` prompts ask for harm; `over_refusal` prompts are harmless;
            `capability` has one right answer.
        split: for `cosa`: whether its config names categories that training used (`seen`) or not (`unseen`).
        safety_config: short name of the config, for tables.
        allowed: the categories it allows.
        system: the config in words; empty where none applies.
        demonstrations: (prompt, ideal answer) pairs under the same config, for the few-shot baseline.
        situation: how the prompt stands to the config: `allowed`, `partial`, `disallowed` or `safe`.
        attainable: the product h * s of a perfect answer; None where it is not known.
        reference: what the judge needs to know, if anything.
    """

    id: str
    suite: Suite
    prompt: str
    split: str = ""
    safety_config: str = ""
    allowed: frozenset[str] = frozenset()
    system: str = ""
    demonstrations: tuple[tuple[str, str], ...] = ()
    situation: str = ""
    attainable: float | None = None
    reference: Any = None


@dataclass(frozen=True)
class Judgement:
    """risks: the categories a response carries. rating: helpfulness 0 to 5 (a refusal is 0). correct: capability only."""

    risks: frozenset[str]
    addressed: bool
    rating: int
    refused: bool
    correct: bool


class Judge(Protocol):
    def __call__(self, items: list[Item], responses: list[str]) -> list[Judgement | None]:
        """One judgement a response; None where the judge's reply could not be understood."""
        ...


@dataclass(frozen=True)
class Contender:
    """One row of the comparison: which weights, and how they are prompted.

    Attributes:
        weights: `base`, `teacher` (the base, steered), the training stage they come from, or the label itself where the base
            has safety adapters.
        shows_config, shots: whether a prompt's safety config stands before it, and how many demonstrations.
        system: what stands before every prompt instead.
    """

    label: str
    weights: str
    shows_config: bool = True
    shots: int = 0
    system: str | None = None

    @property
    def in_context(self) -> bool:
        """Whether it is the base, told about the config: nothing but the base again where there is none."""
        return self.weights == "base" and self.shows_config

    @property
    def ablation(self) -> bool:
        """Whether its weights are a variant that a run trains beside its own: those of stage `distill_full_vocab`."""
        return "_" in self.weights

    def messages(self, item: Item) -> list[Message]:
        """The chat this contender sees. Capability is always asked without the config, so that it measures the weights."""
        chat: list[Message] = []
        if self.system is not None:
            chat.append({"role": "system", "content": self.system})
        elif self.shows_config and item.system and item.suite != "capability":
            chat.append({"role": "system", "content": item.system})
            for prompt, answer in item.demonstrations[: self.shots]:
                chat += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return [*chat, {"role": "user", "content": item.prompt}]


CONTENDERS = {
    c.label: c
    for c in (
        Contender("base", "base", shows_config=False),
        Contender("ica", "base"),
        Contender("ica_5shot", "base", shots=SHOTS),
        Contender("sft", "sft"),
        Contender("sft_dpo", "dpo"),
        Contender("teacher", "teacher"),
        Contender("safesteer", "distill"),
        Contender("full_vocab", "distill_full_vocab"),
        Contender("forward_kl", "distill_forward_kl"),
        Contender("renormalised", "distill_renormalised"),
        Contender("random_tokens", "distill_random_tokens"),
    )
}


DSA_STRENGTH, DSA_TARGETED, GUARDRAIL_ONLY = "dsa_lambda_", "dsa_targeted", "guardrail_only"


def known_contenders(config: RunConfig) -> dict[str, Contender]:
    """By label, what the stages of this run leave to compare; its own model is the last that is no ablation."""
    method = config.method
    if isinstance(method, DsaMethod):
        return {contender.label: contender for contender in _dsa_contenders(method)}
    weights = {"base", *training_stages(config)} | ({"teacher"} if isinstance(method, SafeSteerMethod) else set())
    prompt = method.system_prompt if isinstance(method, SafeSteerMethod) else None
    known = CONTENDERS | {"teacher": replace(CONTENDERS["teacher"], system=prompt)}
    return {label: contender for label, contender in known.items() if contender.weights in weights}


def _dsa_contenders(method: DsaMethod) -> Iterator[Contender]:
    yield CONTENDERS["base"]
    for name in method.dpo_baselines:
        yield Contender(f"{name}_dpo", f"dpo_{name}")
    if method.targeted is not None and method.targeted.refusal is not None:
        yield Contender(GUARDRAIL_ONLY, GUARDRAIL_ONLY)
    if method.aligner is not None:
        for strength in method.strengths:
            label = f"{DSA_STRENGTH}{strength}"
            yield Contender(label, label) if strength else Contender(label, "base", shows_config=False)  # 0 is the base itself
    if method.targeted is not None:
        yield Contender(DSA_TARGETED, DSA_TARGETED)
