"""Which values of TRL's SFT and DPO cannot go together, known before a process starts. Each problem is `key: what; do this`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import stage_fields
from trainer.methods.pairs.reference import reference_problems

DPO_LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
    "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
_WITH_F_DIVERGENCE = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}


def sft_problems(config: RunConfig, training: Training) -> list[str]:
    fields = stage_fields(config, training)
    limited = fields.get("max_length", 1024) is not None  # TRL's default
    if fields.get("packing") and not limited:
        return ["sft.packing: rows are packed up to max_length, and there is none; set sft.max_length."]
    if fields.get("padding_free") and not fields.get("packing") and limited:
        return ["sft.padding_free: TRL does not cut such rows at max_length; set sft.packing=true, or sft.max_length=null."]
    return []


def dpo_problems(config: RunConfig, training: Training) -> list[str]:
    fields = stage_fields(config, training)
    return [*_loss_problems(fields), *reference_problems(config, training)]


def _loss_problems(fields: Mapping[str, Any]) -> list[str]:
    given = fields.get("loss_type", ["sigmoid"])
    losses = given if isinstance(given, list) else [given]
    smoothing, divergence, weights = (fields.get(name) for name in ("label_smoothing", "f_divergence_type", "loss_weights"))
    problems = []
    if weights is not None and len(weights) != len(losses):
        problems.append(
            f"dpo.loss_weights: {len(weights)} weights for {len(losses)} losses in dpo.loss_type; give one for each."
        )
    if "exo_pair" in losses and not smoothing:
        problems.append("dpo.label_smoothing: the loss exo_pair needs one above 0; set dpo.label_smoothing=0.001.")
    if "robust" in losses and smoothing is not None and smoothing >= 0.5:
        problems.append("dpo.label_smoothing: the loss robust divides by 1 - 2 x label_smoothing; set one below 0.5.")
    if divergence not in (None, "reverse_kl") and (others := [loss for loss in losses if loss not in _WITH_F_DIVERGENCE]):
        problems.append(
            f"dpo.f_divergence_type: the loss {others[0]} has reverse_kl alone; remove it, or choose another loss_type."
        )
    if fields.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        problems.append(
            "dpo.use_weighting: the losses aot and aot_unpaired sort the samples; remove it, or choose another loss_type."
        )
    return problems
