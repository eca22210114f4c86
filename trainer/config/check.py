"""What a well-typed config can still get wrong. Every check is one function; all run, and all problems are shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trainer.config.schema import RunConfig
from trainer.config.trl_fields import STAGE_SECTIONS, accumulation_steps, batch_fields_are_sound, field_problems, stage_fields
from trainer.config.zero import zero_problems

SANDBOX = "sandbox"
_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


def find_problems(config: RunConfig, base_dir: Path) -> list[str]:
    """Every reason why this config cannot work, each as `key: what; do this`."""
    problems = field_problems(config)
    problems += zero_problems(config)
    problems += _batch_problems(config)
    problems += _model_problems(config, base_dir)
    problems += _data_problems(config, base_dir)
    problems += _evaluation_problems(config, base_dir)
    problems += _run_problems(config, base_dir)
    return problems


def _batch_problems(config: RunConfig) -> list[str]:
    problems = []
    for stage in STAGE_SECTIONS[config.method.name]:
        if not batch_fields_are_sound(config, stage):
            continue
        try:
            accumulation_steps(config, stage, config.launcher.processes)
        except ValueError as error:
            problems.append(f"{stage}: {error}")
    return problems


def looks_local(path: str) -> bool:
    """Whether a model or dataset is named by a path rather than by a hub name."""
    return path.startswith((".", "/", "~")) or not _HUB_NAME.match(path) or Path(path).exists()


def _missing_path(key: str, path: str, base_dir: Path) -> list[str]:
    if looks_local(path) and not (base_dir / Path(path).expanduser()).exists():
        return [f"{key}: {path} does not exist (looked from {base_dir}); give an existing path or a hub name."]
    return []


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
    if model.path not in (None, SANDBOX):
        problems += _missing_path("model.path", str(model.path), base_dir)
    if model.tokenizer is not None:
        problems += _missing_path("model.tokenizer", model.tokenizer, base_dir)
    for stage in STAGE_SECTIONS[config.method.name]:
        fields = stage_fields(config, stage)
        if fields.get("fp16"):
            problems.append(f"{stage}: fp16 is not supported here; use bf16=true with model.dtype=bfloat16, or fp32.")
        if fields.get("bf16") is not None and bool(fields["bf16"]) != (model.dtype == "bfloat16"):
            problems.append(
                f"{stage}: bf16={fields['bf16']} and model.dtype={model.dtype} disagree; leave bf16 out (it follows the dtype)."
            )
    return problems


def _data_problems(config: RunConfig, base_dir: Path) -> list[str]:
    data, problems = config.data, []
    if data.format == SANDBOX and data.path is not None:
        problems.append("data.path: data.format=sandbox makes its own data; remove the path or choose another format.")
    if data.format != SANDBOX:
        if data.path is None:
            problems.append(f"data.path: data.format={data.format} needs a file, a directory or a hub name.")
        else:
            problems += _missing_path("data.path", data.path, base_dir)
    if data.format == SANDBOX and config.model.path != SANDBOX and config.model.tokenizer is None and config.model.path is None:
        problems.append("data.format: sandbox data needs a model that knows the sandbox's words; use model=sandbox.")
    return problems


def _evaluation_problems(config: RunConfig, base_dir: Path) -> list[str]:
    evaluation, problems = config.evaluation, []
    if evaluation is None:
        return []
    if evaluation.benchmark == "cosalign_test":
        if evaluation.path is None:
            problems.append("evaluation.path: evaluation.benchmark=cosalign_test needs the file with its prompts.")
        elif not (base_dir / Path(evaluation.path).expanduser()).exists():
            problems.append(f"evaluation.path: {evaluation.path} does not exist; give a local file or directory.")
        if config.judge.name != "model":
            problems.append("judge: judge=exact reads only the sandbox's language; cosalign_test needs judge=model.")
    if config.judge.name == "model":
        if evaluation.benchmark == "sandbox":
            problems.append("judge: the sandbox has an exact judge, and no chat model speaks its language; use judge=exact.")
        if config.judge.path is None:
            problems.append("judge.path: judge=model needs the judge's model directory or hub name.")
        else:
            problems += _missing_path("judge.path", config.judge.path, base_dir)
    stages = STAGE_SECTIONS[config.method.name]
    for label in evaluation.models or []:
        needed = {"sft": ("sft",), "sft_dpo": ("sft", "dpo")}.get(label, ())
        if absent := [stage for stage in needed if stage not in stages]:
            problems.append(
                f"evaluation.models: {label} is the model of stage {absent[-1]}, "
                f"and method={config.method.name} has no such stage."
            )
    return problems


def _run_problems(config: RunConfig, base_dir: Path) -> list[str]:
    problems = []
    name = Path(config.run.name)
    plain = all(re.match(r"^[\w.,=+-]+$", part) and part != ".." for part in name.parts)
    if not name.parts or name.is_absolute() or not plain:
        problems.append(
            f"run.name: {config.run.name!r} must be a plain name: letters, digits and . _ - = , + (and / for a sub-folder)."
        )
    runs = base_dir / Path(config.paths.runs).expanduser()
    nearest = next(p for p in (runs, *runs.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        problems.append(f"paths.runs: cannot write in {nearest}; choose a directory you can write to.")
    return problems
