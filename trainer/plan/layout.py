"""A stage's layout from the run's config: the same values that the stage itself would train with."""

from __future__ import annotations

from typing import Any

from trainer.config.schema import RunConfig, SlurmLauncher
from trainer.config.trl_fields import accumulation_steps, config_class, micro_batch_size, stage_fields
from trainer.config.zero import zero_stage
from trainer.plan.memory import Layout, Optimizer
from trainer.stages.data import DEFAULT_MAX_LENGTH

# states a weight and their bytes, temporaries in the step; what is not here is planned as Adam without fusion
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
    import torch

    launcher = config.launcher
    if isinstance(launcher, SlurmLauncher):
        return launcher.gpus_per_node > 0
    return launcher.gpu is not None or torch.cuda.is_available()


def field(config: RunConfig, stage: str, name: str) -> Any:
    """A TRL field as the user set it, else the library's default."""
    fields = stage_fields(config, stage)
    return fields[name] if name in fields else getattr(config_class(stage), name, None)


def optimizer_name(config: RunConfig, stage: str) -> str:
    return str(getattr(field(config, stage, "optim"), "value", field(config, stage, "optim")))


def layout_of(config: RunConfig, stage: str) -> Layout:
    """How a training stage of this run will be laid out."""
    zero = (config.deepspeed or {}).get("zero_optimization") or {}
    number, gpu, lora = zero_stage(config), on_gpu(config), config.model.lora
    world = config.launcher.world_size(stage)
    precomputed = stage_fields(config, stage).get("precompute_ref_log_probs", lora is None)
    defaults = Layout.__dataclass_fields__
    return Layout(
        world=world,
        zero=number,
        dtype_bytes=2 if config.model.dtype == "bfloat16" else 4,
        micro_batch=micro_batch_size(config, stage),
        sequences=2 if stage == "dpo" else 1,
        length=stage_fields(config, stage).get("max_length", DEFAULT_MAX_LENGTH) or UNLIMITED_LENGTH,
        accumulates=accumulation_steps(config, stage, world) > 1,
        checkpointing=bool(stage_fields(config, stage).get("gradient_checkpointing", gpu)),
        eager=config.model.attn_implementation == "eager",
        adapter_dropout=lora is not None and lora.lora_dropout > 0,
        optimizer=OPTIMIZERS.get(optimizer_name(config, stage), UNKNOWN_OPTIMIZER),
        second_model=stage == "dpo" and lora is None and not precomputed,
        on_gpu=gpu,
        offload_optimizer=(zero.get("offload_optimizer") or {}).get("device", "none") != "none",
        offload_param=(zero.get("offload_param") or {}).get("device", "none") != "none",
        reduce_bucket=int(zero.get("reduce_bucket_size", defaults["reduce_bucket"].default)),
        overlap_comm=bool(zero.get("overlap_comm", number == 3)),
        max_live=int(zero.get("stage3_max_live_parameters", defaults["max_live"].default)),
        prefetch=int(zero.get("stage3_prefetch_bucket_size", defaults["prefetch"].default)),
        sub_group=int(zero.get("sub_group_size", defaults["sub_group"].default)),
    )
