"""Stage `teacher`: how much the safety teacher refuses, beside the base; and the teacher without hooks, if asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from trainer.errors import ArtifactError, ConfigError
from trainer.evaluation.generate import complete
from trainer.items import Message
from trainer.methods.safesteer.direction import Direction
from trainer.methods.safesteer.refusal import REPLY_TOKENS, Prompts, RefusalTokens, reads_as_refusal
from trainer.methods.safesteer.section import SafeSteerMethod
from trainer.methods.safesteer.stage_direction import refusal_tokens
from trainer.methods.safesteer.stage_prompts import PromptSets
from trainer.methods.safesteer.teacher import Teacher
from trainer.models.blocks import bake
from trainer.models.fingerprint import base_fingerprint
from trainer.models.inference import load_for_inference
from trainer.models.load import load_model, load_tokenizer
from trainer.models.save import save_model
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR
from trainer.record import write_json

REPORT = "report.json"
REFUSAL = "refusal.json"


def read_refusal_tokens(run_dir: Path) -> RefusalTokens:
    """The refusal tokens of the run.

    Raises:
        ArtifactError: the stage's file is damaged.
    """
    path = run_dir / "teacher" / REFUSAL
    try:
        return RefusalTokens(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def run(context: StageContext) -> list[Path]:
    config, run_dir = context.config, context.run_dir
    assert isinstance(config.method, SafeSteerMethod)
    context.connect()
    path = context.base_model
    fingerprint = context.together(lambda: base_fingerprint(path))
    teacher = Teacher.of_run(config, run_dir, fingerprint)
    prompts = PromptSets.of_run(run_dir)
    tokenizer = load_tokenizer(config.model, path)
    model = load_for_inference(config, path)
    if teacher.system_prompt is None:
        refusal = Direction.load(run_dir / "direction", fingerprint).refusal
    else:
        refusal = refusal_tokens(model, tokenizer, prompts, config.method.direction)
    shares = {}
    for kind, instructions in (("harmful", prompts.validation_harmful), ("harmless", prompts.validation_harmless)):
        shares[f"base_refuses_{kind}"] = _refused(context, model, tokenizer, [Teacher().chat(i) for i in instructions])
        with teacher.applied(model):
            shares[f"teacher_refuses_{kind}"] = _refused(context, model, tokenizer, [teacher.chat(i) for i in instructions])
    if not context.is_main:
        return []
    write_json(context.stage_dir / REPORT, {"prompts": len(prompts.validation_harmful), **shares})
    write_json(context.stage_dir / REFUSAL, asdict(refusal))
    print(
        f"{config.run.name} · teacher · refuses {shares['teacher_refuses_harmful']:.0%} of harmful prompts "
        f"(base {shares['base_refuses_harmful']:.0%}) and {shares['teacher_refuses_harmless']:.0%} of harmless ones "
        f"(base {shares['base_refuses_harmless']:.0%})",
        flush=True,
    )
    outputs = [context.stage_dir / REPORT, context.stage_dir / REFUSAL]
    if config.method.export_teacher:
        outputs += _export(context, teacher, tokenizer, path)
    return outputs


def _refused(context: StageContext, model: Any, tokenizer: Any, chats: Sequence[Sequence[Message]]) -> float:
    """Share of greedy replies that read as a refusal. Every rank answers its share, equally many with repeats."""
    asked = Prompts(model, tokenizer, chats, batch_size=32)
    mine: dict[int, bool] = {}
    for batch in complete([chats[index] for index in asked.mine], model, tokenizer, REPLY_TOKENS, 32):
        mine |= {asked.mine[place]: reads_as_refusal(reply) for place, reply in batch}
    refused: dict[int, bool] = {}
    for share in context.gather(mine):
        refused |= share
    return sum(refused.values()) / len(refused)


def _export(context: StageContext, teacher: Teacher, tokenizer: Any, path: str) -> list[Path]:
    """The teacher as an ordinary model: the direction as a bias of the block before.

    Raises:
        ConfigError: its architecture has no place for that.
    """
    key = "method.export_teacher"
    if teacher.vector is None or teacher.layer is None:
        raise ConfigError(f"{key}: a teacher by system prompt is the base itself; remove this key.")
    unset_hf_deepspeed_config()  # under ZeRO-3 it would load as shards, and wait for the other ranks, which are done
    model = load_model(context.config.model, path)
    if not bake(model, teacher.layer, teacher.vector):
        name = type(model).__name__
        raise ConfigError(f"{key}: {name} has no setting for the bias, so a saved file would lose it; remove this key.")
    return save_model(model, tokenizer, context.stage_dir / MODEL_DIR)
