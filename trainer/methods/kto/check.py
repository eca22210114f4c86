"""What TRL's KTO cannot do, known before a process starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import batch_fields_are_sound, micro_batch_size, stage_fields
from trainer.config.zero import zero_stage
from trainer.suggest import did_you_mean

LOSSES = ("kto", "apo_zero_unpaired")


def estimates_kl(fields: Mapping[str, Any]) -> bool:
    """Whether the loss has a KL term, which TRL estimates from each micro batch: every prompt with the reply to another."""
    return bool(fields.get("loss_type", "kto") == "kto")


def precomputes(fields: Mapping[str, Any], training: Training) -> bool:
    """Whether the reference's log-probabilities are computed once, before training. By default so where all weights are
    trained: with LoRA the reference is there anyway."""
    return bool(fields.get("precompute_ref_log_probs", training.lora is None))


def kto_problems(config: RunConfig, training: Training) -> list[str]:
    """Each as `key: what; do this`."""
    fields, problems = stage_fields(config, training), []
    if (loss := fields.get("loss_type", "kto")) not in LOSSES:
        problems.append(f"kto.loss_type: unknown {loss!r}; {did_you_mean(str(loss), LOSSES)}")
    if estimates_kl(fields):
        if batch_fields_are_sound(config, training) and micro_batch_size(config, training) == 1:
            problems.append(
                "kto.per_device_train_batch_size: the KL term is estimated from each prompt with the reply to another of its "
                "micro batch, and 1 has no other; use 2 or more, or kto.loss_type=apo_zero_unpaired."
            )
        if (order := fields.get("train_sampling_strategy", "sequential")) != "sequential":
            problems.append(
                f"kto.train_sampling_strategy: {order} would break the pairs that the KL term is estimated from; remove it "
                "(the data stage shuffles), or use kto.loss_type=apo_zero_unpaired."
            )
    if fields.get("sync_ref_model"):
        problems += [f"kto.sync_ref_model: {problem}" for problem in _sync_problems(config, training, fields)]
    return problems


def _sync_problems(config: RunConfig, training: Training, fields: Mapping[str, Any]) -> list[str]:
    """Why the reference cannot follow the policy."""
    if training.lora is not None:
        return ["the reference of a LoRA run is the base, which stays as it is; remove it, or model.lora."]
    problems = []
    if precomputes(fields, training):
        problems.append(
            "the reference changes, and its log-probabilities are computed once before training; set "
            "kto.precompute_ref_log_probs=false, or remove it."
        )
    if zero_stage(config) == 3:
        problems.append(
            "the reference is updated from full weights, and ZeRO stage 3 holds shards; use deepspeed=zero2 or "
            "kto.sync_ref_model=false."
        )
    return problems
