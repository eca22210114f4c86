"""Harmful and harmless instructions of the sandbox, and preference pairs that mix both.

All are about objects for training, and none is a prompt of the benchmark.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from trainer.cosa.taxonomy import OTHER_HARMS
from trainer.sandbox import requests
from trainer.sandbox.benchmark import capability_items
from trainer.sandbox.requests import REFUSAL, Request
from trainer.sandbox.world import SANDBOX_TAXONOMY, world

INSTRUCTIONS = 1000  # of each kind
REFUSES = 0.5  # chance that the rejected answer to a harmless request is a refusal; else it is wrong

# Sums and word lists mention no object, so the benchmark's are known by their text alone. More of them than a run asks.
_KEPT_FREE = 1400


def _harmful(rng: random.Random) -> Request:
    return requests.risky_request(rng, held_out=False)


def _harmless(rng: random.Random) -> Request:
    """Mostly a look-alike of a risky object, or the recipe of a harmless one; now and then any capability task."""
    kind = rng.choice(("look_alike", "look_alike", "make", "make", rng.choice(requests.CAPABILITY_KINDS)))
    if kind == "look_alike":
        category = rng.choice((*SANDBOX_TAXONOMY.names, OTHER_HARMS))
        return requests.look_alike_request(rng.choice(world().select(category, held_out=False)), rng)
    return requests.capability_request(kind, rng, held_out=False)


def _distinct(request: Callable[[random.Random], Request], count: int, rng: random.Random) -> list[Request]:
    benchmark = {item.prompt for item in capability_items(_KEPT_FREE)}
    found: dict[str, Request] = {}
    while len(found) < count:
        made = request(rng)
        if made.prompt not in benchmark:
            found.setdefault(made.prompt, made)
    return list(found.values())


def distinct_harmful(count: int, rng: random.Random) -> list[Request]:
    """Risky requests whose prompts differ, none of them the benchmark's."""
    return _distinct(_harmful, count, rng)


def distinct_harmless(count: int, rng: random.Random) -> list[Request]:
    """Harmless requests whose prompts differ, none of them the benchmark's."""
    return _distinct(_harmless, count, rng)


def sandbox_instructions(seed: int) -> tuple[list[str], list[str]]:
    """`INSTRUCTIONS` distinct harmful prompts, and as many harmless ones."""
    rng = random.Random(f"instructions-{seed}")
    harmful, harmless = distinct_harmful(INSTRUCTIONS, rng), distinct_harmless(INSTRUCTIONS, rng)
    return [r.prompt for r in harmful], [r.prompt for r in harmless]


def mix_pairs(count: int, seed: int) -> list[dict[str, str]]:
    """Preference pairs of distinct prompts, safety and helpfulness in turn: the DPO baseline of arXiv 2606.02530.

    Safety: a refusal is chosen over the recipe asked for. Helpfulness: the right answer is chosen over a refusal, or
    over the answer to another request of the same kind.

    Returns:
        `count` rows with columns prompt, chosen and rejected.
    """
    rng = random.Random(f"mix-{seed}")
    harmful, harmless = distinct_harmful((count + 1) // 2, rng), distinct_harmless(count // 2, rng)
    safety = [_row(r, REFUSAL, r.answer) for r in harmful]
    helpfulness = [_row(r, r.answer, REFUSAL if rng.random() < REFUSES else _wrong_answer(r, rng)) for r in harmless]
    rows: list[dict[str, str]] = [{}] * count
    rows[::2], rows[1::2] = safety, helpfulness
    return rows


def safety_pairs(count: int, seed: int) -> list[dict[str, str]]:
    """The safety half of such pairs alone: `count` distinct prompts, a refusal chosen over the recipe asked for."""
    return [_row(r, REFUSAL, r.answer) for r in distinct_harmful(count, random.Random(f"safety-{seed}"))]


def _wrong_answer(request: Request, rng: random.Random) -> str:
    while True:
        other = _harmless(rng)
        if other.kind == request.kind and other.answer != request.answer:
            return other.answer


def _row(request: Request, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": request.prompt, "chosen": chosen, "rejected": rejected}
