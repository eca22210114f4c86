"""Stage `direction`: the base's refusal direction, found and chosen, with every candidate's scores and their picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.methods.safesteer.direction import FACTS, WEIGHTS, Direction, chat_of, find_direction
from trainer.methods.safesteer.heatmap import draw
from trainer.methods.safesteer.refusal import RefusalTokens, find_refusal_tokens, given_tokens
from trainer.methods.safesteer.section import DirectionSection, SafeSteerMethod
from trainer.methods.safesteer.stage_prompts import PromptSets
from trainer.models.fingerprint import base_fingerprint
from trainer.models.inference import load_for_inference
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.tracking.tracker import Tracker

HEAT_MAP = "candidates.png"


def run(context: StageContext) -> list[Path]:
    config = context.config
    assert isinstance(config.method, SafeSteerMethod)
    context.connect()
    path = context.base_model
    fingerprint = context.together(lambda: base_fingerprint(path))
    given = config.method.direction.path
    if given is not None:
        direction = context.together(lambda: Direction.load(Path(given).expanduser(), fingerprint))
    else:
        direction = _find(context, path, fingerprint)
    if not context.is_main:
        return []
    direction.save(context.stage_dir)
    draw(direction.candidates, (direction.position, direction.layer), context.stage_dir / HEAT_MAP)
    with Tracker.open(context) as tracker:
        tracker.image("candidates", context.stage_dir / HEAT_MAP)
        tracker.summary({"layer": direction.layer, "position": direction.position})
    chosen = next(c for c in direction.candidates if (c.position, c.layer) == (direction.position, direction.layer))
    print(
        f"{config.run.name} · direction · layer {chosen.layer}, position {chosen.position}: bypass {chosen.bypass:.2f}, "
        f"induce {chosen.induce:.2f}, KL {chosen.kl:.3f}; refusal tokens {' '.join(map(repr, direction.refusal.texts))}; "
        f"picture: {context.stage_dir / HEAT_MAP}",
        flush=True,
    )
    return [context.stage_dir / name for name in (WEIGHTS, FACTS, HEAT_MAP)]


def _find(context: StageContext, path: str, fingerprint: str) -> Direction:
    config, prompts = context.config, PromptSets.of_run(context.run_dir)
    assert isinstance(config.method, SafeSteerMethod)
    settings = config.method.direction
    tokenizer = load_tokenizer(config.model, path)
    model = load_for_inference(config, path)
    return find_direction(
        model,
        tokenizer,
        prompts.harmful,
        prompts.harmless,
        prompts.validation_harmful,
        prompts.validation_harmless,
        refusal_tokens(model, tokenizer, prompts, settings),
        settings,
        settings.batch_size,
        fingerprint,
    )


def refusal_tokens(model: Any, tokenizer: Any, prompts: PromptSets, settings: DirectionSection) -> RefusalTokens:
    """The first tokens of the base's refusals: those given, or found and verified on its replies."""
    harmful, harmless = ([chat_of(p) for p in instructions] for instructions in (prompts.harmful, prompts.harmless))
    given = given_tokens(tokenizer, settings.refusal_tokens or [])
    return find_refusal_tokens(model, tokenizer, harmful, harmless, settings.batch_size, given)
