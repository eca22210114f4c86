"""Stages `dpo_<name>`: what plain DPO makes of the base itself, on the pairs of the aligner, to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.config.lora import lora_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.methods.dpo.stage import run as dpo
from trainer.methods.dsa.section import DsaMethod
from trainer.models.blocks import decoder_blocks
from trainer.pipeline.context import StageContext


def run(context: StageContext) -> list[Path]:
    """Writes a model, as stage `dpo` does."""
    method, training = context.config.method, context.training
    assert isinstance(method, DsaMethod)
    last_layers = method.dpo_baselines[training.variant].last_layers
    if training.lora is not None and last_layers is not None:
        modules = _in_last_blocks(context.config, context.base_model, training.lora, last_layers)
        training = replace(training, lora={**training.lora, "target_modules": modules})
    return dpo(replace(context, stage=replace(context.stage, training=training)))


def _in_last_blocks(config: RunConfig, path: str, lora: Mapping[str, Any], count: int) -> list[str]:
    """The full names of the modules with LoRA that lie in the last `count` blocks.

    Raises:
        ConfigError: there are fewer blocks.
    """
    shape = AutoConfig.from_pretrained(path, trust_remote_code=config.model.trust_remote_code)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(shape, trust_remote_code=config.model.trust_remote_code)
    if count > len(blocks := decoder_blocks(model)):
        raise ConfigError(f"method.dpo_baselines: last_layers {count}, but the base has {len(blocks)} blocks.")
    last = {id(module) for block in blocks[-count:] for module in block.modules()}
    names = {name for name, module in model.named_modules() if id(module) in last}
    everywhere = get_peft_model(model, lora_config(lora))
    return sorted(names & set(everywhere.targeted_module_names))
