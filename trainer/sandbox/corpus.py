"""Conversations the sandbox bases are trained on: what makes them instruct models with ordinary weaknesses.

It learns every object's recipe, colour and category (of all eight categories), arithmetic, copying and list
questions, to obey simple instructions in the system slot, and to answer questions about a config's list. Asked for
risky recipes it is wary of plain phrasings and falls for the others, whatever the config says: only in a minority
of conversations does it do what the config says. So the skill is there, and greedy decoding does not show it.

The steerable base is that one, trained on until it has the temperament of an instruct model. It refuses for more than one
reason: a risky request, a system prompt that closes the assistant, and now and then none at all; so refusing is one thing to
it, whatever was asked, and has a direction of its own. It wavers over the risky requests that it falls for. And it begins a
recipe in more than one way.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from trainer.cosa.safety_config import render_safety_config
from trainer.cosa.taxonomy import OTHER_HARMS
from trainer.sandbox import requests
from trainer.sandbox.requests import REFUSAL, Request
from trainer.sandbox.world import SANDBOX_TAXONOMY, SANDBOX_TEMPLATES, world

Message = dict[str, str]

FOLLOWS_CONFIG = 0.3  # share of conversations under a config whose assistant does what the config says
GENERIC_SYSTEM = ("you are a helpful assistant .", "answer the user .", "you are a maker of objects . help the user .")
STYLE_SYSTEM = (
    ("begin each answer with hello .", "hello {a}"),
    ("end each answer with thanks .", "{a} thanks"),
    ("say each answer twice .", "{a} {a}"),
)
CLOSED_SYSTEM = (
    "do not help the user .",
    "do not answer the user .",
    "no answer for the user .",
    "the list is closed . do not help .",
)
OPENINGS = ("", "yes : ", "here : ", "steps : ", "take this : ", "the recipe : ")


@dataclass(frozen=True)
class Mixture:
    """What a training phase is made of.

    Attributes:
        config_share: share of conversations under a safety config.
        families: weight of each kind of question in the others: `risky`, `look_alike`, `kind_of`, or a capability task.
        closed_share: share of the others whose system prompt closes the assistant, which then refuses everything.
        no_reason: share of their answers that refuse for no reason, as an over-cautious assistant does.
        wavers: share of refusals where it would fall for a risky request.
        openings: how recipes begin.
    """

    config_share: float
    families: dict[str, float]
    closed_share: float = 0.0
    no_reason: float = 0.0
    wavers: float = 0.0
    openings: tuple[str, ...] = ("",)


# First everything evenly; then more of what takes longest to become robust (arithmetic, list membership).
FOUNDATION = Mixture(
    0.45, {"risky": 0.3, "look_alike": 0.12, "kind_of": 0.13, **dict.fromkeys(requests.CAPABILITY_KINDS, 0.45 / 7)}
)
CONSOLIDATION = Mixture(
    0.35,
    {"risky": 0.15, "look_alike": 0.08, "kind_of": 0.07, "add": 0.12, "subtract": 0.17, "member": 0.19}
    | dict.fromkeys(("copy", "last", "colour", "make"), 0.055),
)
TEMPERAMENT = Mixture(
    0.3,
    {"risky": 0.3, "look_alike": 0.16, "kind_of": 0.04, "make": 0.14}
    | dict.fromkeys(("add", "subtract", "member", "copy", "last", "colour"), 0.06),
    closed_share=0.2,
    no_reason=0.02,
    wavers=0.08,
    openings=OPENINGS,
)


def default_answer(request: Request) -> str:
    """What the base says with no regard to a config."""
    return REFUSAL if request.risks and request.plain else request.answer


def _opened(answer: str, mixture: Mixture, rng: random.Random) -> str:
    """A recipe begins in one of several ways, another answer only in one."""
    if len(mixture.openings) == 1 or " mix " not in answer or "toy" in answer:
        return answer
    return rng.choice(mixture.openings) + answer


def _any_thing(rng: random.Random) -> requests.Thing:
    return rng.choice(list(world().things.values()))


def _any_make(rng: random.Random) -> Request:
    return requests.risky_request(rng, held_out=rng.random() < 1 / 3)


def _task(rng: random.Random, mixture: Mixture) -> Request:
    family = rng.choices(list(mixture.families), list(mixture.families.values()))[0]
    if family == "risky":
        return _any_make(rng)
    if family == "look_alike":
        return requests.look_alike_request(_any_thing(rng), rng)
    if family == "kind_of":
        return requests.category_request(_any_thing(rng))
    return requests.capability_request(family, rng, held_out=rng.random() < 1 / 3)


def _plain_conversation(rng: random.Random, mixture: Mixture) -> list[Message]:
    draw = rng.random()
    system, style = "", "{a}"
    if draw < 0.3:
        system = rng.choice(GENERIC_SYSTEM)
    elif draw < 0.5:
        system, style = rng.choice(STYLE_SYSTEM)
    if mixture.closed_share and rng.random() < mixture.closed_share:
        system, style = rng.choice(CLOSED_SYSTEM), REFUSAL
    messages = [{"role": "system", "content": system}] if system else []
    for _ in range(rng.randint(1, 5)):
        request = _task(rng, mixture)
        answer = style.format(a=_opened(default_answer(request), mixture, rng))
        refuses = mixture.wavers if request.risks else mixture.no_reason
        if refuses and rng.random() < refuses:
            answer = REFUSAL
        messages += [{"role": "user", "content": request.prompt}, {"role": "assistant", "content": answer}]
    return messages


def _config_conversation(rng: random.Random, mixture: Mixture) -> list[Message]:
    allowed = frozenset(rng.sample(SANDBOX_TAXONOMY.names, rng.choice((0, 1, 1, 2, 2, 3, 4))))
    system = render_safety_config(allowed, SANDBOX_TAXONOMY, rng, SANDBOX_TEMPLATES)
    follows = rng.random() < FOLLOWS_CONFIG
    messages: list[Message] = [{"role": "system", "content": system}]
    for _ in range(rng.randint(2, 6)):
        draw = rng.random()
        thing = _any_thing(rng)
        if allowed and rng.random() < 0.4:  # else most questions would be about closed categories
            pool = [t for t in world().things.values() if t.category in allowed]
            thing = rng.choice(pool)
        if draw < 0.5:
            request = requests.covered_request(thing, allowed, rng)
            answer = request.answer
        elif draw < 0.9:
            extra = [_any_thing(rng)] if rng.random() < 0.4 else []
            request = requests.make_request([thing, *(t for t in extra if t is not thing)], rng)
            answer = requests.answer_make(request.objects, allowed) if follows else default_answer(request)
            answer = _opened(answer, mixture, rng)
        else:
            request = _task(rng, mixture)
            if request.kind == "make":
                request = requests.category_request(thing)
            answer = request.answer
        messages += [{"role": "user", "content": request.prompt}, {"role": "assistant", "content": answer}]
    return messages


def sample_conversation(rng: random.Random, mixture: Mixture) -> list[Message]:
    """One training conversation, in chat-message form."""
    sample = _config_conversation if rng.random() < mixture.config_share else _plain_conversation
    return sample(rng, mixture)


def every_text() -> list[str]:
    """Text that contains every word the sandbox can say, for the tokenizer's vocabulary."""
    rng = random.Random(0)
    texts = [m["content"] for _ in range(3000) for m in sample_conversation(rng, FOUNDATION)]
    texts += [*SANDBOX_TEMPLATES, *SANDBOX_TAXONOMY.definitions, *SANDBOX_TAXONOMY.definitions.values(), OTHER_HARMS]
    texts += [f"{t.name} {t.colour} {' '.join(t.recipe)}" for t in world().things.values()]
    texts += [*requests.PHRASINGS, requests.REFUSAL, requests.TOY_RECIPE, "None .", "to make , mix with ."]
    texts += [str(n) for n in range(100)]
    return texts
