"""The reference model of TRL's DPO and KTO: when its log-probabilities are computed, and when it can follow the policy."""

from __future__ import annotations

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import stage_fields
from trainer.config.zero import zero_stage

_ONLY_FOR_SYNC = ("ref_model_mixup_alpha", "ref_model_sync_steps")


def precomputes(config: RunConfig, training: Training) -> bool:
    """Whether the reference's log-probabilities are computed once, before training. By default so where all weights are
    trained: with LoRA the reference is there anyway."""
    return bool(stage_fields(config, training).get("precompute_ref_log_probs", training.lora is None))


def reference_problems(config: RunConfig, training: Training) -> list[str]:
    """What is wrong with `sync_ref_model` and the fields that belong to it."""
    fields, section = stage_fields(config, training), training.section
    if not fields.get("sync_ref_model"):
        return [
            f"{section}.{name}: does nothing without {section}.sync_ref_model=true; set that, or remove it."
            for name in _ONLY_FOR_SYNC
            if name in fields
        ]
    key = f"{section}.sync_ref_model"
    if training.lora is not None:
        return [f"{key}: the reference of a LoRA run is the base, which stays as it is; remove it, or model.lora."]
    problems = []
    if precomputes(config, training):
        problems.append(
            f"{key}: the reference changes, and its log-probabilities are computed once before training; set "
            f"{section}.precompute_ref_log_probs=false, or remove it."
        )
    if zero_stage(config) == 3:
        problems.append(
            f"{key}: the reference is updated from full weights, and ZeRO stage 3 holds shards; use deepspeed=zero2 or "
            f"{section}.sync_ref_model=false."
        )
    return problems
