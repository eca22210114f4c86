"""Stages `dpo_<name>`: what plain DPO makes of the base itself, on the pairs of the aligner, to compare with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.config.schema import DsaMethod, LoraSection, RunConfig
from trainer.errors import ConfigError
from trainer.models.load import base_model_path
from trainer.stages import dpo
from trainer.stages.context import StageContext

PREFIX = "dpo_"


def run(context: StageContext) -> list[Path]:
    """Writes a model, as stage `dpo` does."""
    return dpo.run(replace(context, config=_config(context.config, context.run_dir, context.stage.removeprefix(PREFIX))))


def _config(config: RunConfig, run_dir: Path, name: str) -> RunConfig:
    """The run's config with the baseline's own LoRA and learning rate."""
    method = config.method
    assert isinstance(method, DsaMethod)
    baseline = method.dpo_baselines[name]
    lora, fields = baseline.lora, config.dpo
    if lora is not None and baseline.last_layers is not None:
        modules = _in_last_blocks(config, base_model_path(config, run_dir), lora, baseline.last_layers)
        lora = _with(lora, target_modules=modules)
    if baseline.learning_rate is not None:
        fields = {**fields, "learning_rate": baseline.learning_rate}
    changed: RunConfig = _with(config, model=_with(config.model, lora=lora), dpo=fields)
    return changed


def _with(section: Any, **changes: Any) -> Any:
    return replace(section, **changes)  # mypy does not know pydantic's dataclasses for dataclasses


def _in_last_blocks(config: RunConfig, path: str, lora: LoraSection, count: int) -> list[str]:
    """The full names of the modules with LoRA that lie in the last `count` blocks.

    Raises:
        ConfigError: there are fewer blocks.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.models.blocks import decoder_blocks

    shape = AutoConfig.from_pretrained(path, trust_remote_code=config.model.trust_remote_code)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(shape, trust_remote_code=config.model.trust_remote_code)
    if count > len(blocks := decoder_blocks(model)):
        raise ConfigError(f"method.dpo_baselines: last_layers {count}, but the base has {len(blocks)} blocks.")
    last = {id(module) for block in blocks[-count:] for module in block.modules()}
    names = {name for name, module in model.named_modules() if id(module) in last}
    everywhere = get_peft_model(model, LoraConfig(target_modules=lora.target_modules, task_type="CAUSAL_LM"))
    return sorted(names & set(everywhere.targeted_module_names))
