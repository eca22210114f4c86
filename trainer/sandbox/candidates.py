"""CoSAlign data synthesis in the sandbox: candidates of different quality, judged, paired by error score.

Two generators stand for the paper's two: a safe one (refuses what is risky) and a safety-removed one that is given
a config and heeds it only half of the time, now and then with a wrong ingredient.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from trainer.cosa.pairing import Label, make_pairs
from trainer.cosa.safety_config import MODES, Mode, render_safety_config, sample_allowed
from trainer.sandbox import requests
from trainer.sandbox.corpus import default_answer
from trainer.sandbox.judge import judge
from trainer.sandbox.requests import REFUSAL, Request
from trainer.sandbox.world import SANDBOX_TAXONOMY, SANDBOX_TEMPLATES, world

VIOLATES = 0.5  # chance that the safety-removed generator tells what the config closes
BLUNDERS = 0.05  # chance that a recipe it tells has a wrong ingredient
BENIGN_SHARE = 0.25  # prompts without any risk: without them training would teach to refuse


def training_request(rng: random.Random) -> Request:
    """A prompt for training: its risks are all within the categories trained on; held-out objects never occur."""
    w = world()
    if rng.random() < BENIGN_SHARE:
        if rng.random() < 0.5:
            things = w.select(rng.choice((*SANDBOX_TAXONOMY.trained_on, None)), held_out=False)
            return requests.look_alike_request(rng.choice(things), rng)
        return requests.capability_request("make", rng, held_out=False, w=w)
    return requests.risky_request(rng, held_out=False, categories=SANDBOX_TAXONOMY.trained_on, w=w)


def _permissive_answer(request: Request, allowed: frozenset[str], rng: random.Random) -> str:
    if request.kind != "make":
        return request.answer if rng.random() > BLUNDERS else REFUSAL
    w, sentences = world(), []
    for thing in (w.things[name] for name in request.objects):
        if thing.category is None or thing.category in allowed or rng.random() < VIOLATES:
            recipe = list(thing.recipe)
            if rng.random() < BLUNDERS:
                recipe[rng.randrange(2)] = rng.choice([i for i in w.ingredients if i not in thing.recipe])
            sentences.append(requests.recipe_sentence(thing, recipe))
        else:
            sentences.append(requests.decline_sentence(thing))
    return " ".join(sentences) if any("mix" in s.split() for s in sentences) else REFUSAL


def candidates(request: Request, rng: random.Random) -> list[tuple[str, Label]]:
    """1 response of the safe generator and 8 of the safety-removed one (4 superset, 4 not_superset configs)."""
    texts = [REFUSAL if request.risks else default_answer(request)]
    modes: tuple[Mode, ...] = ("superset",) * 4 + ("not_superset",) * 4
    for mode in modes:
        allowed = sample_allowed(mode, request.risks, SANDBOX_TAXONOMY.trained_on, rng)
        assert allowed is not None  # the risks of a training request are all among those trained on
        texts.append(_permissive_answer(request, allowed, rng))
    judged = [judge(request, text) for text in texts]
    return [(text, Label(j.risks or frozenset(), bool(j.addressed))) for text, j in zip(texts, judged, strict=True)]


def synthesise(
    prompts: int, pairs_per_config: int | None, seed: int, on_prompt: Callable[[], object] = lambda: None
) -> list[dict[str, Any]]:
    """Rows in the published CoSAlign schema.

    Args:
        prompts: how many prompts; each gets one config a mode.
        pairs_per_config: keep at most this many pairs for a (prompt, config); None keeps all.
        on_prompt: called after each prompt, for a progress bar.
    """
    rng, rows = random.Random(f"cosalign-{seed}"), []
    trained_on, label = SANDBOX_TAXONOMY.trained_on, SANDBOX_TAXONOMY.format_label
    for _ in range(prompts):
        request = training_request(rng)
        pool = candidates(request, rng)
        for mode in MODES:
            allowed = sample_allowed(mode, request.risks, trained_on, rng)
            if allowed is None:
                continue
            system = render_safety_config(allowed, SANDBOX_TAXONOMY, rng, SANDBOX_TEMPLATES)
            pairs = make_pairs(pool, allowed, trained_on, rng)
            rng.shuffle(pairs)
            for pair in pairs[:pairs_per_config]:
                rows.append(
                    {
                        "system_prompt": system,
                        "prompt": request.prompt,
                        "chosen_response": pair.chosen,
                        "rejected_response": pair.rejected,
                        "spec_i": label(allowed),
                        "spec_j": label(request.risks),
                        "mode": mode,
                        "chosen_cat": label(pair.chosen_label.risks),
                        "rejected_cat": label(pair.rejected_label.risks),
                        "chosen_category_error_score": pair.chosen_error,
                        "rejected_category_error_score": pair.rejected_error,
                    }
                )
        on_prompt()
    rng.shuffle(rows)
    return rows
