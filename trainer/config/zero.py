"""DeepSpeed's JSON: what the user may set, what is derived from the trainer fields, and what cannot work."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import accumulation_steps, micro_batch_size, stage_fields
from trainer.suggest import did_you_mean

DERIVED = {
    "train_batch_size": "trainer.train_batch_size",
    "train_micro_batch_size_per_gpu": "trainer.per_device_train_batch_size",
    "gradient_accumulation_steps": "trainer.train_batch_size",
    "gradient_clipping": "trainer.max_grad_norm",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "optimizer": "trainer.optim",
    "scheduler": "trainer.lr_scheduler_type",
}
KNOWN = (
    "zero_optimization",
    "activation_checkpointing",
    "aio",
    "comms_logger",
    "communication_data_type",
    "data_types",
    "dump_state",
    "flops_profiler",
    "prescale_gradients",
    "steps_per_print",
    "wall_clock_breakdown",
    "zero_force_ds_cpu_optimizer",
)


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
    for key in config.deepspeed:
        if key in DERIVED:
            problems.append(f"deepspeed.{key}: is derived from {DERIVED[key]}; set that instead.")
        elif key not in KNOWN:
            problems.append(f"deepspeed.{key}: unknown key; {did_you_mean(key, KNOWN)}")
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
    return problems


def _zero_section_problems(zero: dict[str, Any]) -> list[str]:
    logging.disable(logging.WARNING)  # importing it on a machine without a GPU warns about that
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    logging.disable(logging.NOTSET)

    known = {name for f, i in DeepSpeedZeroConfig.model_fields.items() for name in (f, i.alias) if name}
    problems = []
    for key in zero.keys() - known:
        problems.append(f"deepspeed.zero_optimization.{key}: unknown key; {did_you_mean(key, known, 'see DeepSpeed.')}")
    try:
        DeepSpeedZeroConfig(**{k: v for k, v in zero.items() if k in known and k != "stage"})
    except ValidationError as error:
        problems += [f"deepspeed.zero_optimization.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return problems
