"""Weights in 4 or 8 bits: which fields of `transformers.BitsAndBytesConfig` may be set, and with what else they can go."""

from __future__ import annotations

from trainer.config.run import RunConfig
from trainer.config.zero import zero_stage
from trainer.suggest import did_you_mean

PASSED = frozenset(
    ("load_in_4bit", "load_in_8bit", "bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
)
_OUTLIERS = "the model's own layers decide"
REFUSED = {
    "llm_int8_threshold": _OUTLIERS,
    "llm_int8_skip_modules": _OUTLIERS,
    "llm_int8_enable_fp32_cpu_offload": "weights of a base under LoRA stay on the GPU",
    "llm_int8_has_fp16_weight": "the base is not trained",
    "bnb_4bit_quant_storage": "it is for sharding, which quantised weights do not take",
}


def quantization_problems(config: RunConfig) -> list[str]:
    """4-bit and 8-bit weights cannot be trained themselves, nor sharded."""
    if config.model.quantization is None:
        return []
    problems, key = [], "model.quantization"
    for name in config.model.quantization.keys() - PASSED:
        why = (
            f"may not be set: {REFUSED[name]}; remove it." if name in REFUSED else f"unknown key; {did_you_mean(name, PASSED)}"
        )
        problems.append(f"{key}.{name}: {why}")
    if not (config.model.quantization.get("load_in_4bit") or config.model.quantization.get("load_in_8bit")):
        problems.append(f"{key}: says nothing of bits; set load_in_4bit: true or load_in_8bit: true.")
    if config.training and config.model.lora is None:
        problems.append(f"{key}: such weights are not trained; set model.lora, or remove {key}.")
    if config.model.random_init is not None:
        problems.append(f"{key}: fresh weights are not quantised; remove it.")
    if zero_stage(config) == 3:
        problems.append(f"{key}: quantised weights cannot be sharded by ZeRO-3; use deepspeed=zero2.")
    if config.launcher.wants_gpus() is False:
        problems.append(f"{key}: needs a GPU, and the launcher asks for none; remove it.")
    return problems
