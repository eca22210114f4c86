"""Unpaired replies that the sandbox makes: CoSAlign's candidates, each desirable or undesirable under a safety config."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field

from trainer.config.section import section
from trainer.cosa.pairing import MAX_CHOSEN_ERROR, Label, error_score
from trainer.cosa.safety_config import MODES, render_safety_config, sample_allowed
from trainer.data.files import located
from trainer.data.formats.replies import UnpairedData
from trainer.data.formats.unpaired import from_unpaired
from trainer.data.replies import Replies
from trainer.sandbox.candidates import candidates, training_request
from trainer.sandbox.world import SANDBOX_TAXONOMY, SANDBOX_TEMPLATES


@section
class SandboxUnpaired(UnpairedData):
    """Replies under safety configs, labelled by their error score.

    prompts: how many to synthesise.
    per_config: at most this many desirable replies for a (prompt, config), and as many undesirable ones; null is all.
    """

    format: Literal["sandbox_unpaired"]
    prompts: int = Field(1200, gt=0)
    per_config: int | None = Field(1, gt=0)

    makes_its_own: ClassVar[bool] = True

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Replies:
        return from_unpaired(located(unpaired_rows(self.prompts, self.per_config, seed)[: self.limit], "sandbox"))


def unpaired_rows(prompts: int, per_config: int | None, seed: int) -> list[dict[str, Any]]:
    """Rows with prompt (chat messages), completion and label, in random order.

    Args:
        prompts: how many prompts; each gets one config per mode.
        per_config: keep at most this many of each label for a (prompt, config), drawn at random; None keeps all.
    """
    rng, rows = random.Random(f"unpaired-{seed}"), []
    for _ in range(prompts):
        request = training_request(rng)
        pool = candidates(request, rng)
        for mode in MODES:
            allowed = sample_allowed(mode, request.risks, SANDBOX_TAXONOMY.trained_on, rng)
            if allowed is None:
                continue
            system = render_safety_config(allowed, SANDBOX_TAXONOMY, rng, SANDBOX_TEMPLATES)
            prompt = [{"role": "system", "content": system}, {"role": "user", "content": request.prompt}]
            labels = desirability(pool, allowed)
            for label in (True, False):
                texts = [text for text, desirable in labels.items() if desirable == label]
                rng.shuffle(texts)
                rows += [{"prompt": prompt, "completion": text, "label": label} for text in texts[:per_config]]
    rng.shuffle(rows)
    return rows


def desirability(pool: Iterable[tuple[str, Label]], allowed: frozenset[str]) -> dict[str, bool]:
    """Text -> whether it is desirable, of the distinct candidates for one prompt under one config.

    Desirable is what has the lowest error score (arXiv 2410.08968, section 4.2) of these candidates, if that is below
    `MAX_CHOSEN_ERROR`: the rule for a chosen response, less its partner.
    """
    errors = {text: error_score(label.collapse(SANDBOX_TAXONOMY.trained_on), allowed) for text, label in pool}
    lowest = min(errors.values())
    return {text: error == lowest < MAX_CHOSEN_ERROR for text, error in errors.items()}
