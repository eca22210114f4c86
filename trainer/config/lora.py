"""LoRA under PEFT's own names: which fields of `peft.LoraConfig` may be set, and the object that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainer.config.training import type_problems
from trainer.suggest import did_you_mean

ALL_LINEAR = "all-linear"  # where PEFT would ask for target_modules; every other default is PEFT's

_OTHER_BASE = "nothing: it changes the base, which must stay what the adapter is compared with and merged into"
_NEEDS_DATA = "nothing: it is computed from data before training, which no stage does"
_ELSEWHERE = "nothing: this project trains, merges and saves plain LoRA, DoRA and rsLoRA only"
# Field -> what sets it instead, or why nothing may.
DERIVED = {
    "task_type": "this project: the base is a causal language model",
    "peft_type": "this project: it is LORA",
    "base_model_name_or_path": "model.path",
    "revision": "model.revision",
    "inference_mode": "the stage",
    "peft_version": "the installed PEFT",
    "auto_mapping": "PEFT",
    "layer_replication": _OTHER_BASE,
    "fan_in_fan_out": "PEFT, which sees it from the layer",
    "runtime_config": "PEFT",
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config"), _NEEDS_DATA),
    **dict.fromkeys(("megatron_config", "megatron_core", "velora_config", "alora_invocation_tokens", "use_qalora"), _ELSEWHERE),
    **dict.fromkeys(("qalora_group_size", "monteclora_config", "use_bdlora", "arrow_config", "kasa_config"), _ELSEWHERE),
}
PASSED = frozenset(
    [
        "r",
        "target_modules",
        "exclude_modules",
        "lora_alpha",
        "lora_dropout",
        "bias",
        "use_rslora",
        "modules_to_save",
        "init_lora_weights",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "trainable_token_indices",
        "use_dora",
        "lora_bias",
        "target_parameters",
        "ensure_weight_tying",
    ]
)
_INITIAL = (True, False, "gaussian", "orthogonal")  # those that leave the base as it is and need no data


def lora_problems(key: str, fields: Mapping[str, Any] | None) -> list[str]:
    """Everything wrong with a section of LoRA's fields that stands at `key`."""
    from peft import LoraConfig

    problems = []
    known = {field.name for field in dataclasses.fields(LoraConfig) if field.init}
    for name, value in (fields or {}).items():
        if name in DERIVED:
            problems.append(f"{key}.{name}: is set by {DERIVED[name]}; remove it here.")
        elif name not in known:
            hint = did_you_mean(name, PASSED, "see its documentation.")
            problems.append(f"{key}.{name}: unknown field of LoraConfig; {hint}")
        elif name not in PASSED:
            problems.append(f"{key}.{name}: is new in this version of PEFT, and nobody has said what it does here; remove it.")
        elif name == "init_lora_weights" and value not in _INITIAL:
            problems.append(
                f"{key}.{name}: {value!r} changes the base or needs data; choose one of true, false, gaussian, orthogonal."
            )
        elif name == "bias" and value != "none":
            problems.append(f"{key}.bias: trains biases of the base, which stay when the adapter is off; set none.")
        elif name == "r" and not (isinstance(value, int) and value > 0):
            problems.append(f"{key}.r: must be a positive integer (got {value!r})")
        elif name == "lora_dropout" and not (isinstance(value, (int, float)) and 0 <= value < 1):
            problems.append(f"{key}.lora_dropout: must be at least 0 and below 1 (got {value!r})")
        else:
            problems += [f"{key}.{name}: {problem} (got {value!r})" for problem in type_problems(LoraConfig, name, value)]
    return problems


def lora_config(fields: Mapping[str, Any]) -> Any:
    """The `peft.LoraConfig` of a section that was checked."""
    from peft import LoraConfig

    return LoraConfig(**{"target_modules": ALL_LINEAR, **fields}, task_type="CAUSAL_LM")
