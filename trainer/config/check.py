"""What the types cannot say: values that contradict each other, files that are not there. The kinds answer for themselves."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from trainer.config.arguments import argument_problems
from trainer.config.bases import SuiteSection
from trainer.config.lora import lora_problems
from trainer.config.models import model_problems, on_hub, place_problems
from trainer.config.paths import PLAIN_NAME
from trainer.config.positions import too_long
from trainer.config.quantization import quantization_problems
from trainer.config.run import RunConfig
from trainer.config.shipped import SHIPPED
from trainer.config.targets import target_problems
from trainer.config.tokenizer import tokenizer_problems
from trainer.config.training import accumulation_steps, batch_fields_are_sound, field_problems, stage_fields
from trainer.config.zero import zero_problems
from trainer.suggest import did_you_mean


def find_problems(config: RunConfig, base_dir: Path) -> list[str]:
    """Every reason why this config cannot work, each as `key: what; do this`."""
    problems = field_problems(config)
    if not problems:
        problems = [line for one in config.training for line in argument_problems(config, one)]
        problems = list(dict.fromkeys(problems))  # stages that share a section
    problems += zero_problems(config)
    problems += batch_problems(config)
    problems += _model_problems(config, base_dir)
    problems += _data_problems(config, base_dir)
    problems += config.method.problems(config, base_dir)
    problems += _evaluation_problems(config, base_dir)
    problems += _tracking_problems(config)
    problems += _run_problems(config, base_dir)
    problems += config.launcher.problems(config, _stage_names(config))
    return problems


def _stage_names(config: RunConfig) -> tuple[str, ...]:
    """All stages of the run; in a config with mistakes the chain itself cannot be made."""
    base = ("base",) * (config.model.random_init is not None)
    evaluated = ("evaluate",) * (config.evaluation is not None)
    return (*config.method.untrained(config), *(training.stage for training in config.training), *base, *evaluated)


def batch_problems(config: RunConfig) -> list[str]:
    """Global batches that do not divide into the processes, one for each training stage that has such a one."""
    problems = []
    for training in config.training:
        if not batch_fields_are_sound(config, training):
            continue
        try:
            accumulation_steps(config, training, config.launcher.world_size(training.stage))
        except ValueError as error:
            problems.append(f"{training.stage}: {error}")
    return problems


def _model_problems(config: RunConfig, base_dir: Path) -> list[str]:
    model, problems = config.model, []
    if (model.path is None) == (model.random_init is None):
        problems.append("model: set exactly one of model.path and model.random_init.")
    if model.random_init is not None:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        kind = model.random_init.get("model_type")
        if kind not in CONFIG_MAPPING:
            problems.append(
                f"model.random_init.model_type: transformers has no model type {kind!r}; for example: llama, qwen3, mistral."
            )
        if model.tokenizer is None:
            problems.append("model.tokenizer: fresh weights come without one; give a tokenizer directory or hub name.")
    if model.path is not None:
        problems += model_problems("model.path", model.path, base_dir, model.revision)
    if model.revision is not None and (model.path is None or not on_hub(model.path)):
        problems.append("model.revision: only models of the hub have revisions; remove it, or give a hub name as model.path.")
    if model.tokenizer is not None:
        problems += place_problems("model.tokenizer", model.tokenizer, base_dir)
    problems += lora_problems("model.lora", model.lora)
    problems += _attention_problems(model.attn_implementation)
    key, tokenizer = ("model.path", model.path) if model.tokenizer is None else ("model.tokenizer", model.tokenizer)
    if not problems and tokenizer is not None and tokenizer not in SHIPPED:
        problems += tokenizer_problems(key, tokenizer, base_dir, model.trust_remote_code, model.chat_template)
    if not problems:
        problems += target_problems(config, base_dir)
    problems += quantization_problems(config)
    for training in config.training:
        fields = stage_fields(config, training)
        if isinstance(length := fields.get("max_length"), int):
            problems += too_long(f"{training.stage}: max_length", length, model, base_dir)
        if fields.get("fp16"):
            problems.append(f"{training.stage}: fp16 is not supported here; use bf16=true with model.dtype=bfloat16, or fp32.")
        if fields.get("bf16") is not None and bool(fields["bf16"]) != (model.dtype == "bfloat16"):
            problems.append(
                f"{training.stage}: bf16={fields['bf16']} and model.dtype={model.dtype} disagree; leave bf16 out "
                "(it follows the dtype)."
            )
    return problems


_FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}  # -> the module of its package


def _attention_problems(implementation: str) -> list[str]:
    if implementation in ("sdpa", "eager"):
        return []
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if implementation not in (known := ALL_ATTENTION_FUNCTIONS.valid_keys()):
        return [f"model.attn_implementation: unknown {implementation!r}; {did_you_mean(implementation, ['eager', *known])}"]
    if (module := _FLASH.get(implementation)) is not None and find_spec(module) is None:
        return [f"model.attn_implementation: {implementation} needs the package {module}; install it, or use sdpa."]
    return []


def _data_problems(config: RunConfig, base_dir: Path) -> list[str]:
    data = config.data
    kind, needed = config.method.needs(config)
    if not isinstance(data, kind):
        return [f"data.format: method={config.method.name} cannot train on {data.format}; it needs {needed}."]
    problems = data.problems("data", config, base_dir)
    if data.makes_its_own and config.model.path is None and config.model.tokenizer is None:
        problems.append("data.format: sandbox data needs a model that knows the sandbox's words; use model=sandbox.")
    return problems


def _evaluation_problems(config: RunConfig, base_dir: Path) -> list[str]:
    evaluation = config.evaluation
    if evaluation is None:
        return []
    problems = evaluation.problems(config, base_dir)
    if not evaluation.asks:
        return problems
    problems += _judge_problems(config, evaluation, base_dir)
    known = {contender.label for contender in config.method.contenders(config)}
    for label in evaluation.models or []:
        if label not in known:
            problems.append(
                f"evaluation.models: unknown {label!r} with method={config.method.name}; {did_you_mean(label, known)}"
            )
    return problems


def _judge_problems(config: RunConfig, evaluation: SuiteSection, base_dir: Path) -> list[str]:
    problems = []
    for key, judge in config.judges_by_key.items():
        if judge.name not in evaluation.judges:
            problems.append(
                f"{key}: judge={judge.name} cannot read answers to {evaluation.benchmark}; "
                f"use judge={' or judge='.join(evaluation.judges)}."
            )
        problems += judge.problems(key, config, base_dir)
    for name in config.judges:
        if not PLAIN_NAME.match(name):
            problems.append(f"judges.{name}: stands in the results; use letters, digits, _ and -.")
        elif name == config.judge.name:
            problems.append(f"judges.{name}: is the name of the main judge, judge={name}; give this one another.")
    return problems


def _tracking_problems(config: RunConfig) -> list[str]:
    """Names that W&B refuses."""
    tracking, problems = config.tracking, []
    if tracking.mode == "disabled":
        return []
    for key, name in (("project", tracking.project), ("entity", tracking.entity)):
        if name is not None and (not 0 < len(name) <= 128 or not name.isprintable() or set(name) & set("/\\#?%:")):
            problems.append(
                f"tracking.{key}: W&B takes 1 to 128 characters without / \\ # ? % : (got {name!r}); choose another."
            )
    if any(not 0 < len(tag) <= 64 for tag in tracking.tags):
        problems.append("tracking.tags: W&B takes tags of 1 to 64 characters; shorten them.")
    return problems


def _run_problems(config: RunConfig, base_dir: Path) -> list[str]:
    problems = []
    name = Path(config.run.name)
    plain = all(re.fullmatch(r"[\w.,=+-]+", part) and part != ".." for part in name.parts)
    if not name.parts or name.is_absolute() or not plain:
        problems.append(
            f"run.name: {config.run.name!r} must be a plain name: letters, digits and . _ - = , + (and / for a sub-folder)."
        )
    if config.run.objective is not None and config.evaluation is None:
        problems.append("run.objective: without an evaluation there is no results.json to find it in; choose an evaluation.")
    runs = base_dir / Path(config.paths.runs).expanduser()
    nearest = next(p for p in (runs, *runs.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        problems.append(f"paths.runs: cannot write in {nearest}; choose a directory you can write to.")
    return problems
