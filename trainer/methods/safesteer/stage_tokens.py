"""Stage `tokens`: the safety tokens, voted for on short rollouts of the teacher on harmless prompts."""

from __future__ import annotations

from pathlib import Path

from trainer.methods.safesteer.refusal import prompt_tokens
from trainer.methods.safesteer.safety_tokens import SAFETY_TOKENS, SafetyTokens, collect, random_tokens, special_tokens
from trainer.methods.safesteer.section import SafeSteerMethod
from trainer.methods.safesteer.stage_prompts import PromptSets
from trainer.methods.safesteer.teacher import Teacher
from trainer.models.fingerprint import base_fingerprint
from trainer.models.inference import load_for_inference
from trainer.models.load import load_tokenizer
from trainer.models.template import stop_tokens
from trainer.pipeline.context import StageContext

_SHOWN = 12


def run(context: StageContext) -> list[Path]:
    config, method = context.config, context.config.method
    assert isinstance(method, SafeSteerMethod)
    settings = method.tokens
    context.connect()
    path = context.base_model
    fingerprint = context.together(lambda: base_fingerprint(path))
    tokenizer = load_tokenizer(config.model, path)
    if settings.path is not None:
        chosen = SafetyTokens.load(Path(settings.path).expanduser(), fingerprint)
    elif settings.chosen == "random":
        ids = random_tokens(len(tokenizer), settings.size, special_tokens(tokenizer), config.seed)
        texts = [tokenizer.decode([token]) for token in ids]
        chosen = SafetyTokens(ids, texts, [0] * len(ids), [0.0] * len(ids), 0, fingerprint)
    else:
        teacher = Teacher.of_run(config, context.run_dir, fingerprint)
        model = load_for_inference(config, path)
        prompts = PromptSets.of_run(context.run_dir)
        harmless = [*prompts.harmless, *prompts.validation_harmless]
        vote = collect(
            model,
            lambda: teacher.applied(model),
            prompt_tokens(tokenizer, [Teacher().chat(prompt) for prompt in harmless]),
            prompt_tokens(tokenizer, [teacher.chat(prompt) for prompt in harmless]),
            rollouts=settings.rollouts,
            horizon=settings.horizon,
            votes=settings.votes,
            min_probability=settings.min_probability,
            batch_size=settings.batch_size,
            sampled_from=settings.sampled_from,
            stop_tokens=stop_tokens(model, tokenizer),
            special_tokens=special_tokens(tokenizer),
            pad_token=tokenizer.pad_token_id,
            seed=config.seed,
            rank=context.rank,
            world_size=context.world_size,
        )
        chosen = vote.select(tokenizer, fingerprint, settings.size)
    if not context.is_main:
        return []
    chosen.save(context.stage_dir)
    shown = " ".join(repr(text) for text in chosen.texts[:_SHOWN])
    print(f"{config.run.name} · tokens · {len(chosen.ids)} from {chosen.steps:,} steps: {shown} ...", flush=True)
    return [context.stage_dir / SAFETY_TOKENS]
