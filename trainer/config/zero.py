"""DeepSpeed's JSON: what the user may set, what is derived from the trainer fields, and what cannot work."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import accumulation_steps, micro_batch_size, stage_fields
from trainer.config.zero_fields import DERIVED, PASSED, ZERO_DERIVED, ZERO_PASSED
from trainer.suggest import did_you_mean

_GATHERS = ("stage3_gather_16bit_weights_on_model_save", "gather_16bit_weights_on_model_save")  # its two names
_ON_CPU = ("adamw_torch", "adamw_torch_fused", "adagrad")  # DeepSpeed has these for the CPU


def zero_stage(config: RunConfig) -> int | None:
    """0 to 3, or None where DeepSpeed is not used."""
    if config.deepspeed is None:
        return None
    zero = config.deepspeed.get("zero_optimization")
    stage = zero.get("stage", 0) if isinstance(zero, dict) else 0
    return stage if stage in (0, 1, 2, 3) else 0  # `zero_problems` says what is wrong with another


def deepspeed_json(
    config: RunConfig, training: Training, world_size: int, load_universal: bool = False
) -> dict[str, Any] | None:
    """The complete JSON for one training stage, or None where the run does without DeepSpeed.

    Args:
        load_universal: the checkpoint to resume from was converted for another world size.
    """
    if config.deepspeed is None:
        return None
    fields = stage_fields(config, training)
    return {
        **config.deepspeed,
        "train_micro_batch_size_per_gpu": micro_batch_size(config, training),
        "gradient_accumulation_steps": accumulation_steps(config, training, world_size),
        "gradient_clipping": float(fields.get("max_grad_norm", 1.0)),
        "bf16": {"enabled": bool(fields.get("bf16", config.model.dtype == "bfloat16"))},
        "zero_allow_untested_optimizer": True,
        "checkpoint": {"load_universal": load_universal},
    }


def zero_problems(config: RunConfig) -> list[str]:
    """Everything wrong with the `deepspeed` section."""
    if config.deepspeed is None:
        return []
    problems = []
    for key, value in config.deepspeed.items():
        if key not in PASSED:
            problems.append(_unknown(key, key, PASSED))
        elif (known := PASSED[key]) is not None:
            inner = value if isinstance(value, dict) else {str(value): None}
            problems += [_unknown(f"{key}.{name}", name, known) for name in inner.keys() - known]
    zero = config.deepspeed.get("zero_optimization") or {}
    if not isinstance(zero, dict):
        return [*problems, f"deepspeed.zero_optimization: must be a section such as {{stage: 2}} (got {zero!r})"]
    problems += _zero_section_problems(zero)
    stage = zero.get("stage", 0)
    if stage not in (0, 1, 2, 3):
        return [*problems, f"deepspeed.zero_optimization.stage: must be 0, 1, 2 or 3 (got {stage!r})"]
    if "offload_param" in zero and stage != 3:
        problems.append(
            f"deepspeed.zero_optimization.offload_param: needs ZeRO stage 3, this is {stage}; use deepspeed=zero3_offload."
        )
    if "offload_optimizer" in zero and stage == 0:
        problems.append("deepspeed.zero_optimization.offload_optimizer: needs ZeRO stage 1 to 3; use deepspeed=zero2_offload.")
    for training in config.training:
        if stage == 0 and stage_fields(config, training).get("bf16", config.model.dtype == "bfloat16"):
            problems.append(
                f"deepspeed: ZeRO stage 0 in bf16 keeps no fp32 master weights and drifts from the other stages "
                f"({training.stage}); use deepspeed=zero1, deepspeed=none, or float32."
            )
    if stage == 3 and not any(zero.get(name) for name in _GATHERS):
        problems.append(
            f"deepspeed.zero_optimization.{_GATHERS[0]}: without it ZeRO stage 3 saves shards, and a stage leaves a model; set "
            "true, or use deepspeed=zero3."
        )
    offload = zero.get("offload_optimizer") or {}
    if offload.get("device", "none") != "none" and config.deepspeed.get("zero_force_ds_cpu_optimizer", True):
        problems += [line for training in config.training for line in _offload_problems(config, training)]
    return problems or _refused_by_deepspeed(config)


def _unknown(key: str, name: str, known: Collection[str]) -> str:
    if key in DERIVED:
        return f"deepspeed.{key}: is derived from {DERIVED[key]}; set that instead."
    return f"deepspeed.{key}: unknown key; {did_you_mean(name, known)}"


def _offload_problems(config: RunConfig, training: Training) -> list[str]:
    """Where the optimiser is offloaded, accelerate puts DeepSpeed's CPU Adam in place of all that it has no CPU version of."""
    optimizer = stage_fields(config, training).get("optim", _ON_CPU[0])
    if optimizer in _ON_CPU:
        return []
    return [
        f"{training.section}.optim: {optimizer} would become DeepSpeed's CPU Adam, because the optimiser is offloaded; use "
        "optim=adamw_torch, or a deepspeed group without offload."
    ]


def _refused_by_deepspeed(config: RunConfig) -> list[str]:
    """What DeepSpeed itself says of the JSON."""
    from deepspeed.runtime.config import DeepSpeedConfig

    try:
        DeepSpeedConfig({**(config.deepspeed or {}), "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1})
    except (ValueError, TypeError, AssertionError, AttributeError) as error:
        return [f"deepspeed: DeepSpeed refuses it: {error}"]
    return []


def _zero_section_problems(zero: dict[str, Any]) -> list[str]:
    logging.disable(logging.WARNING)  # importing it on a machine without a GPU warns about that
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    logging.disable(logging.NOTSET)

    names = {name: field for field, info in DeepSpeedZeroConfig.model_fields.items() for name in (field, info.alias) if name}
    known = {name for name, field in names.items() if field in ZERO_PASSED}
    problems = []
    for key in zero.keys() - known:
        where = f"deepspeed.zero_optimization.{key}"
        if key in ZERO_DERIVED:
            problems.append(f"{where}: is set by {ZERO_DERIVED[key]}; remove it here.")
        elif key in names:
            problems.append(f"{where}: is new in this version of DeepSpeed, and nobody has said what it does here; remove it.")
        else:
            problems.append(f"{where}: unknown key; {did_you_mean(key, known, 'see DeepSpeed.')}")
    try:
        DeepSpeedZeroConfig(**{k: v for k, v in zero.items() if k in known and k != "stage"})
    except ValidationError as error:
        problems += [f"deepspeed.zero_optimization.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return problems
