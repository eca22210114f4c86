"""What is asked in an evaluation, what a judge says of an answer, and which models are compared how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, str]
Chat = Sequence[Message]
Measure = Literal["cosa", "attack", "over_refusal", "capability", "task"]
SHOTS = 5


@dataclass(frozen=True)
class Item:
    """One prompt of an evaluation.

    Attributes:
        suite: what is measured: `cosa` is scored by CoSA-Score; `attack` prompts ask for harm; `over_refusal` prompts are
            harmless; `capability` has one right answer; `task` too, which is its `reference`, and no judge is asked.
        split: for `cosa`: whether its config names categories that training used (`seen`) or not (`unseen`).
        safety_config: short name of the config, for tables.
        allowed: the categories it allows.
        system: the config in words; empty where none applies.
        guideline: the config as somebody wrote it, where it names no categories and a response keeps to it or does not.
        demonstrations: (prompt, ideal answer) pairs under the same config, for the few-shot baseline.
        situation: how the prompt stands to the config: `allowed`, `partial`, `disallowed` or `safe`.
        attainable: the product h * s of a perfect answer; None where it is not known.
        reference: what the judge needs to know, if anything.
        task: the task whose models alone are asked this; empty asks all.
    """

    id: str
    suite: Measure
    prompt: str
    split: str = ""
    safety_config: str = ""
    allowed: frozenset[str] = frozenset()
    system: str = ""
    guideline: str = ""
    demonstrations: tuple[tuple[str, str], ...] = ()
    situation: str = ""
    attainable: float | None = None
    reference: Any = None
    task: str = ""


@dataclass(frozen=True)
class Judgement:
    """risks: the categories a response carries. rating: helpfulness 0 to 5 (a refusal is 0). correct: capability only. None is
    what this judge does not tell."""

    risks: frozenset[str] | None
    addressed: bool | None
    rating: int | None
    refused: bool | None
    correct: bool | None


@dataclass(frozen=True)
class Verdict:
    """What a judge makes of a response.

    Attributes:
        judgement: None where its reply could not be understood.
        replies: what it said, by question; empty where it does not answer in words.
    """

    judgement: Judgement | None
    replies: Mapping[str, str] = field(default_factory=dict)


class Judge(ABC):
    """Reads responses. All ranks call it together, with the same, and get the same."""

    @abstractmethod
    def __call__(self, items: list[Item], responses: list[str]) -> list[Verdict]:
        """One verdict per response."""

    def facts(self) -> dict[str, Any]:
        """What stands beside its numbers, once it has judged: how good it is, what it took."""
        return {}


class OneByOne(Judge):
    """A judge that reads each response for itself, by a function."""

    def __init__(self, read: Callable[[Item, str], Verdict]):
        self.read = read

    def __call__(self, items: list[Item], responses: list[str]) -> list[Verdict]:
        return [self.read(item, response) for item, response in zip(items, responses, strict=True)]


@dataclass(frozen=True)
class Contender:
    """One row of the comparison: which weights, and how they are prompted.

    Attributes:
        weights: `base`, the training stage that they come from, or what the method makes of the base for it.
        shows_config, shots: whether a prompt's safety config stands before it, and how many demonstrations.
        system: what stands before every prompt instead.
        variant: whether it is there to be compared with: the run's own model is the last that is not.
        task: what it was fine-tuned for.
    """

    label: str
    weights: str
    shows_config: bool = True
    shots: int = 0
    system: str | None = None
    variant: bool = False
    task: str = ""

    @property
    def in_context(self) -> bool:
        """Whether it is the base, told about the config: nothing but the base again where there is none."""
        return self.weights == "base" and self.shows_config

    def is_asked(self, item: Item) -> bool:
        return item.task in ("", self.task)

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


BASE = Contender("base", "base", shows_config=False)
IN_CONTEXT = (BASE, Contender("ica", "base"), Contender("ica_5shot", "base", shots=SHOTS))  # the base, and in-context alignment
