"""A stage's layout from the run's config: the same values that the stage itself would train with."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import accumulation_steps, config_class, micro_batch_size, stage_fields, weights_dtype
from trainer.config.zero import zero_stage
from trainer.methods.pairs.lengths import DEFAULT_MAX_LENGTH
from trainer.plan.memory import Layout, Optimizer

# states per weight and their bytes, temporaries in the step; what is not here is planned as Adam without fusion
OPTIMIZERS = {
    "adamw_torch_fused": Optimizer(2, 4, 0),
    "adamw_torch": Optimizer(2, 4, 1),
    "adamw_bnb_8bit": Optimizer(2, 1, 0),
    "rmsprop": Optimizer(1, 4, 1),
    "adagrad": Optimizer(1, 4, 1),
    "sgd": Optimizer(0, 4, 0),
}
UNKNOWN_OPTIMIZER = Optimizer(2, 4, 1)
UNLIMITED_LENGTH = 4096  # planned where max_length is null


def on_gpu(config: RunConfig) -> bool:
    """Whether the run is meant for GPUs: the launcher says so, or this machine has one."""
    said = config.launcher.wants_gpus()
    return torch.cuda.is_available() if said is None else said


def field(config: RunConfig, training: Training, name: str) -> Any:
    """A TRL field as the user set it, else the library's default."""
    fields = stage_fields(config, training)
    return fields[name] if name in fields else getattr(config_class(training.section), name, None)


def optimizer_name(config: RunConfig, training: Training) -> str:
    return str(getattr(field(config, training, "optim"), "value", field(config, training, "optim")))


def layout_of(config: RunConfig, training: Training) -> Layout:
    """How a training stage of this run will be laid out.

    Raises:
        ConfigError: the method does not know.
    """
    zero = (config.deepspeed or {}).get("zero_optimization") or {}
    number, gpu, fields = zero_stage(config), on_gpu(config), stage_fields(config, training)
    world = config.launcher.world_size(training.stage)
    footprint = config.method.footprint(config, training)
    length = footprint.length or int(fields.get("max_length", DEFAULT_MAX_LENGTH) or UNLIMITED_LENGTH)
    defaults = Layout.__dataclass_fields__
    return Layout(
        world=world,
        zero=number,
        dtype_bytes=2 if config.model.dtype == "bfloat16" else 4,
        autocast=weights_dtype(config, training) != config.model.dtype,
        micro_batch=micro_batch_size(config, training),
        sequences=footprint.sequences,
        length=length,
        accumulates=accumulation_steps(config, training, world) > 1,
        checkpointing=bool(fields.get("gradient_checkpointing", gpu)),
        eager=config.model.attn_implementation == "eager",
        adapter_dropout=training.lora is not None and training.lora.get("lora_dropout", 0) > 0,
        optimizer=OPTIMIZERS.get(optimizer_name(config, training), UNKNOWN_OPTIMIZER),
        second_model=footprint.second_model,
        forwards=footprint.forwards,
        on_gpu=gpu,
        rollout=footprint.rollout,
        offload_optimizer=(zero.get("offload_optimizer") or {}).get("device", "none") != "none",
        offload_param=(zero.get("offload_param") or {}).get("device", "none") != "none",
        reduce_bucket=int(zero.get("reduce_bucket_size", defaults["reduce_bucket"].default)),
        overlap_comm=bool(zero.get("overlap_comm", number == 3)),
        max_live=int(zero.get("stage3_max_live_parameters", defaults["max_live"].default)),
        prefetch=int(zero.get("stage3_prefetch_bucket_size", defaults["prefetch"].default)),
        sub_group=int(zero.get("sub_group_size", defaults["sub_group"].default)),
    )
