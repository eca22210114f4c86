"""The base model for a stage that trains nothing: whole on every rank, or in shards where the run uses ZeRO-3."""

from __future__ import annotations

from typing import Any

from trainer.config.run import RunConfig
from trainer.config.zero import zero_stage
from trainer.models.device import device_of_rank
from trainer.models.load import load_model


def load_for_inference(config: RunConfig, path: str) -> Any:
    """The model at `path`, in evaluation mode. Under ZeRO-3 every rank must run it equally often.

    Raises:
        ArtifactError: see `load_model`.
    """
    if zero_stage(config) != 3:
        return load_model(config.model, path).to(device_of_rank()).eval()
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig

    settings = {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed wants to know, and nothing is trained
        "bf16": {"enabled": config.model.dtype == "bfloat16"},
        "zero_optimization": {k: v for k, v in _zero(config).items() if k != "offload_optimizer"},
    }
    sharding = HfDeepSpeedConfig(settings)  # as long as it lives, transformers loads shards and generates in step
    model = load_model(config.model, path)
    engine, *_ = deepspeed.initialize(model=model, config=settings)
    model.__dict__["keeps_alive"] = (engine, sharding)
    return model.eval()


def _zero(config: RunConfig) -> dict[str, Any]:
    section: dict[str, Any] = (config.deepspeed or {}).get("zero_optimization", {})
    return section
