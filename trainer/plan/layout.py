"""A stage's layout from the run's config: the same values that the stage itself would train with."""

from __future__ import annotations

from typing import Any

from trainer.config.schema import InstructionData, RunConfig, SafeSteerMethod, SlurmLauncher
from trainer.config.trl_fields import accumulation_steps, config_class, micro_batch_size, stage_fields
from trainer.config.zero import zero_stage
from trainer.plan.memory import Layout, Optimizer, Rollout
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
# Whether an ablation's loss is the one over the whole vocabulary; the other stages have that of `method.loss`.
FULL_VOCABULARY = {"distill_full_vocab": True, "distill_forward_kl": False, "distill_renormalised": False}


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


def _rollout(config: RunConfig, stage: str) -> Rollout | None:
    method = config.method
    if not isinstance(method, SafeSteerMethod):
        return None
    accumulation = accumulation_steps(config, stage, config.launcher.world_size(stage))
    return Rollout(
        completion=int(field(config, stage, "max_completion_length")),
        samples=micro_batch_size(config, stage) * accumulation,
        tiles=3 if FULL_VOCABULARY.get(stage, method.loss == "full") else 2,
        gathers=zero_stage(config) == 3 and bool(field(config, stage, "ds3_gather_for_generation")),
    )


def _length(config: RunConfig, stage: str, rollout: Rollout | None) -> int:
    """Tokens of a sequence, at most."""
    if rollout is not None and isinstance(config.data, InstructionData):
        return config.data.max_prompt_length + rollout.completion
    return int(stage_fields(config, stage).get("max_length", DEFAULT_MAX_LENGTH) or UNLIMITED_LENGTH)


def _second_model(config: RunConfig, stage: str) -> bool:
    if isinstance(config.method, SafeSteerMethod):
        return config.method.teacher == "copy"
    if stage != "dpo" or config.model.lora is not None:
        return False
    return not stage_fields(config, stage).get("precompute_ref_log_probs", True)


def layout_of(config: RunConfig, stage: str) -> Layout:
    """How a training stage of this run will be laid out."""
    zero = (config.deepspeed or {}).get("zero_optimization") or {}
    number, gpu, lora = zero_stage(config), on_gpu(config), config.model.lora
    world = config.launcher.world_size(stage)
    rollout = _rollout(config, stage)
    defaults = Layout.__dataclass_fields__
    return Layout(
        world=world,
        zero=number,
        dtype_bytes=2 if config.model.dtype == "bfloat16" else 4,
        micro_batch=micro_batch_size(config, stage),
        sequences=2 if stage == "dpo" else 1,
        length=_length(config, stage, rollout),
        accumulates=accumulation_steps(config, stage, world) > 1,
        checkpointing=bool(stage_fields(config, stage).get("gradient_checkpointing", gpu)),
        eager=config.model.attn_implementation == "eager",
        adapter_dropout=lora is not None and lora.lora_dropout > 0,
        optimizer=OPTIMIZERS.get(optimizer_name(config, stage), UNKNOWN_OPTIMIZER),
        second_model=_second_model(config, stage),
        on_gpu=gpu,
        rollout=rollout,
        offload_optimizer=(zero.get("offload_optimizer") or {}).get("device", "none") != "none",
        offload_param=(zero.get("offload_param") or {}).get("device", "none") != "none",
        reduce_bucket=int(zero.get("reduce_bucket_size", defaults["reduce_bucket"].default)),
        overlap_comm=bool(zero.get("overlap_comm", number == 3)),
        max_live=int(zero.get("stage3_max_live_parameters", defaults["max_live"].default)),
        prefetch=int(zero.get("stage3_prefetch_bucket_size", defaults["prefetch"].default)),
        sub_group=int(zero.get("sub_group_size", defaults["sub_group"].default)),
    )
