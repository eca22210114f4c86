"""What a well-typed config can still get wrong. Every check is one function; all run, and all problems are shown."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from trainer.config.check_dsa import PLAIN_NAME, dsa_problems, untrained_stages
from trainer.config.schema import (
    CosalignTestEvaluation,
    DsaMethod,
    GuardrailEvaluation,
    InstructionData,
    LabelledData,
    PreferenceData,
    PromptsEvaluation,
    RunConfig,
    SafeSteerMethod,
    SlurmLauncher,
)
from trainer.config.slurm_time import seconds_of
from trainer.config.trl_fields import (
    accumulation_steps,
    batch_fields_are_sound,
    field_problems,
    micro_batch_size,
    stage_fields,
    training_stages,
)
from trainer.config.zero import zero_problems
from trainer.evaluation.items import CONTENDERS, known_contenders
from trainer.sandbox import SHIPPED
from trainer.suggest import did_you_mean

SANDBOX = "sandbox"
_OURS = "job-name chdir output open-mode array nodes ntasks-per-node cpus-per-task gpus-per-node mem time partition account"
_OURS += " qos constraint reservation signal requeue dependency wrap parsable"  # sbatch options that have one place already
_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


def find_problems(config: RunConfig, base_dir: Path) -> list[str]:
    """Every reason why this config cannot work, each as `key: what; do this`."""
    problems = field_problems(config)
    problems += zero_problems(config)
    problems += _batch_problems(config)
    problems += _model_problems(config, base_dir)
    problems += _data_problems(config, base_dir)
    problems += _method_problems(config, base_dir)
    problems += dsa_problems(config)
    problems += _evaluation_problems(config, base_dir)
    problems += _run_problems(config, base_dir)
    problems += _slurm_problems(config)
    return problems


def _batch_problems(config: RunConfig) -> list[str]:
    problems = []
    for stage in training_stages(config):
        if not batch_fields_are_sound(config, stage):
            continue
        try:
            accumulation_steps(config, stage, config.launcher.world_size(stage))
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
    if model.path is not None and model.path not in SHIPPED:
        problems += _missing_path("model.path", str(model.path), base_dir)
    if model.tokenizer is not None:
        problems += _missing_path("model.tokenizer", model.tokenizer, base_dir)
    for stage in training_stages(config):
        fields = stage_fields(config, stage)
        if fields.get("fp16"):
            problems.append(f"{stage}: fp16 is not supported here; use bf16=true with model.dtype=bfloat16, or fp32.")
        if fields.get("bf16") is not None and bool(fields["bf16"]) != (model.dtype == "bfloat16"):
            problems.append(
                f"{stage}: bf16={fields['bf16']} and model.dtype={model.dtype} disagree; leave bf16 out (it follows the dtype)."
            )
    return problems


def _needed_data(config: RunConfig) -> tuple[type, str]:
    """The class of the data section that the method needs, and what that is in words."""
    if isinstance(config.method, SafeSteerMethod):
        return InstructionData, "data=instructions or data=sandbox_instructions"
    if isinstance(config.method, DsaMethod) and config.method.guardrails:
        return LabelledData, "labelled texts, such as data=sandbox_labelled"
    return PreferenceData, "preference pairs, such as data=sandbox"


def _data_problems(config: RunConfig, base_dir: Path) -> list[str]:
    data = config.data
    kind, needed = _needed_data(config)
    if not isinstance(data, kind):
        return [f"data.format: method={config.method.name} cannot train on {data.format}; it needs {needed}."]
    problems = _source_problems("data", data, base_dir)
    if isinstance(data, LabelledData):
        problems += _test_set_problems(data, config, base_dir)
        if data.preferences is not None:
            problems += _source_problems("data.preferences", data.preferences, base_dir)
    if data.format.startswith(SANDBOX) and config.model.path is None and config.model.tokenizer is None:
        problems.append("data.format: sandbox data needs a model that knows the sandbox's words; use model=sandbox.")
    return problems


def _source_problems(key: str, data: PreferenceData | InstructionData | LabelledData, base_dir: Path) -> list[str]:
    """About the files or hub datasets of the section `key`."""
    problems = []
    for name in ("harmful", "harmless", "prompts") if isinstance(data, InstructionData) else ("path",):
        path = getattr(data, name)
        if data.format.startswith(SANDBOX) and path is not None:
            problems.append(
                f"{key}.{name}: {key}.format={data.format} makes its own; remove the path or choose another format."
            )
        elif path is not None:
            problems += _missing_path(f"{key}.{name}", path, base_dir)
        elif not data.format.startswith(SANDBOX) and name != "prompts":
            problems.append(f"{key}.{name}: {key}.format={data.format} needs a file, a directory or a hub name.")
    return problems


def _test_set_problems(data: LabelledData, config: RunConfig, base_dir: Path) -> list[str]:
    if data.format.startswith(SANDBOX):
        return ["data.tests: the sandbox has its own test sets; remove this key."] if data.tests else []
    problems = []
    if not data.tests and config.evaluation is not None:
        problems.append("data.tests: there is nothing to evaluate on; set data.tests.NAME=FILE, or evaluation=none.")
    for name, path in data.tests.items():
        if not PLAIN_NAME.match(name) or name in ("train", "validation"):
            problems.append(f"data.tests.{name}: must be a plain name (letters, digits, _ and -), not train or validation.")
        problems += _missing_path(f"data.tests.{name}", path, base_dir)
    return problems


def _method_problems(config: RunConfig, base_dir: Path) -> list[str]:
    method, problems = config.method, []
    if not isinstance(method, SafeSteerMethod):
        return []
    if method.teacher == "shared" and config.model.lora is None:
        problems.append(
            "method.teacher: shared takes the student's weights without its adapter; set model.lora, or method.teacher=copy."
        )
    for key, path in (("direction", method.direction.path), ("tokens", method.tokens.path)):
        if path is not None and not (base_dir / Path(path).expanduser()).is_dir():
            problems.append(f"method.{key}.path: {path} is no directory; give the stage directory of an earlier run.")
    if method.export_teacher and method.system_prompt is not None:
        problems.append("method.export_teacher: a teacher by system prompt is the base itself; remove this key.")
    if len(set(method.ablations)) < len(method.ablations):
        problems.append("method.ablations: names one twice; remove it there.")
    if isinstance(config.data, InstructionData) and batch_fields_are_sound(config, "distill"):
        rows, world = config.data.limit * method.rollouts, config.launcher.world_size("distill")
        with suppress(ValueError):  # a batch that does not divide is reported elsewhere
            batch = micro_batch_size(config, "distill") * accumulation_steps(config, "distill", world) * world
            if rows < batch:
                problems.append(
                    f"data.limit: {config.data.limit} prompts x method.rollouts={method.rollouts} do not fill one step "
                    f"of {batch} samples; raise one of the two, or lower trainer.train_batch_size."
                )
    return problems


def _evaluation_problems(config: RunConfig, base_dir: Path) -> list[str]:
    evaluation, problems = config.evaluation, []
    if evaluation is None:
        return []
    sandbox = evaluation.benchmark.startswith(SANDBOX)
    if isinstance(evaluation, CosalignTestEvaluation):
        if evaluation.path is None:
            problems.append("evaluation.path: evaluation.benchmark=cosalign_test needs the file with its prompts.")
        elif not (base_dir / Path(evaluation.path).expanduser()).exists():
            problems.append(f"evaluation.path: {evaluation.path} does not exist; give a local file or directory.")
    if isinstance(evaluation, PromptsEvaluation):
        if not evaluation.attacks and not evaluation.benign:
            problems.append("evaluation.attacks: there is nothing to ask; set evaluation.attacks.NAME=FILE or evaluation=none.")
        for kind in ("attacks", "benign"):
            for name, path in getattr(evaluation, kind).items():
                problems += _missing_path(f"evaluation.{kind}.{name}", path, base_dir)
    if isinstance(evaluation, GuardrailEvaluation):
        return []
    if not sandbox and config.judge.name != "model":
        problems.append(f"judge: judge=exact reads only the sandbox's language; {evaluation.benchmark} needs judge=model.")
    if config.judge.name == "model":
        if sandbox:
            problems.append("judge: the sandbox has an exact judge, and no chat model speaks its language; use judge=exact.")
        if config.judge.path is None:
            problems.append("judge.path: judge=model needs the judge's model directory or hub name.")
        else:
            problems += _missing_path("judge.path", config.judge.path, base_dir)
    known = known_contenders(config)
    for label in evaluation.models or []:
        if label not in known and label in CONTENDERS:
            problems.append(
                f"evaluation.models: {label} is the model of stage {CONTENDERS[label].weights}, "
                f"and method={config.method.name} has no such stage here."
            )
        elif label not in known:
            problems.append(f"evaluation.models: unknown {label!r}; {did_you_mean(label, known)}")
    return problems


def _run_problems(config: RunConfig, base_dir: Path) -> list[str]:
    problems = []
    name = Path(config.run.name)
    plain = all(re.match(r"^[\w.,=+-]+$", part) and part != ".." for part in name.parts)
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


def _slurm_problems(config: RunConfig) -> list[str]:
    launcher, problems = config.launcher, []
    if not isinstance(launcher, SlurmLauncher):
        return []
    times = {"launcher.time": launcher.time} | {
        f"launcher.stages.{name}.time": size.time for name, size in launcher.stages.items() if size.time is not None
    }
    for key, time in times.items():
        seconds = seconds_of(time)
        if seconds is None:
            problems.append(f"{key}: {time!r} is not a Slurm time; write HH:MM:SS, D-HH:MM:SS, or minutes.")
        elif seconds <= launcher.signal_lead + 60:
            problems.append(
                f"{key}: {seconds} s leave nothing before the signal: it comes launcher.signal_lead={launcher.signal_lead} s "
                "before the end and up to 60 s sooner; ask for more time or lower launcher.signal_lead."
            )
    stages = untrained_stages(config.method) if isinstance(config.method, DsaMethod) else ["data"]
    if isinstance(config.method, SafeSteerMethod):
        stages += ["direction", "teacher", "tokens"]
    stages += training_stages(config)
    stages += ["base"] * (config.model.random_init is not None) + ["evaluate"] * (config.evaluation is not None)
    for name in launcher.stages:
        if name not in stages:
            problems.append(f"launcher.stages.{name}: this run has no such stage; {did_you_mean(name, stages)}")
    if launcher.stages and not launcher.per_stage:
        problems.append("launcher.stages: sizes by stage need a job a stage; set launcher.per_stage=true or remove them.")
    for option in launcher.sbatch:
        name = option.partition("=")[0]
        if not re.match(r"^--[a-z][a-z-]*$", name) or not option.isprintable():
            problems.append(f"launcher.sbatch: {option!r} is not one option; write it as --name or --name=value.")
        elif name.removeprefix("--") in _OURS.split():
            problems.append(f"launcher.sbatch: {name} is set from the launcher's own keys (or by the launcher); remove it.")
    for key in ("mem", "partition", "account", "qos", "constraint", "reservation"):
        if not (getattr(launcher, key) or "x").isprintable():
            problems.append(f"launcher.{key}: {getattr(launcher, key)!r} contains a line break; remove it.")
    for name in launcher.environment:
        if not re.match(r"^[A-Za-z_][A-Za-z0-9_]*$", name):
            problems.append(f"launcher.environment.{name}: not a name for a variable; use letters, digits and _.")
    if launcher.offline and config.tracking.mode == "online":
        problems.append(
            "tracking.mode: online needs a network on the nodes; set offline, or launcher.offline=false if they have it."
        )
    if launcher.container_mounts and launcher.container is None:
        problems.append("launcher.container_mounts: there is no launcher.container to mount them in; set it or remove them.")
    return problems
