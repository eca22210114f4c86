"""What TRL's KTO cannot do, known before a process starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import batch_fields_are_sound, micro_batch_size, stage_fields
from trainer.methods.pairs.reference import reference_problems

LOSSES = ("kto", "apo_zero_unpaired")


def estimates_kl(fields: Mapping[str, Any]) -> bool:
    """Whether the loss has a KL term, which TRL estimates from each micro batch: every prompt with the reply to another."""
    return bool(fields.get("loss_type", "kto") == "kto")


def kto_problems(config: RunConfig, training: Training) -> list[str]:
    """Each as `key: what; do this`."""
    fields, problems = stage_fields(config, training), []
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
    return [*problems, *reference_problems(config, training)]
