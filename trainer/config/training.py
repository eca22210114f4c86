"""What may stand in `trainer` and in the sections of training stages (`sft`, `dpo`, ...): fields of the libraries' own classes.

A field may be set in `trainer` (for every training stage) or in the stage's own section, not in both. Which fields pass through
and which may not be set is written down in `fields.py` and in each method's `TrlSection`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from trainer.config.fields import CHOICES, PASSED, RANGES, SET_ELSEWHERE, VALIDATION
from trainer.config.run import RunConfig
from trainer.config.stage import Training, TrlSection
from trainer.dotted import resolve
from trainer.suggest import did_you_mean

SECTIONS: dict[str, TrlSection] = {}  # those of all methods; filled by trainer/kinds.py

# The one name that is DeepSpeed's and not TRL's: examples in one optimiser step, over all processes.
GLOBAL_BATCH = "train_batch_size"
SAVE_STEPS = 200  # where it is not set
BATCH_FIELDS = (GLOBAL_BATCH, "per_device_train_batch_size", "gradient_accumulation_steps")


def config_class(section: str) -> type:
    """The library's class of a section's fields."""
    found: type = resolve(SECTIONS[section].fields_of)
    return found


def _set_fields(config: RunConfig, training: Training) -> dict[str, Any]:
    return {**config.trainer, **config.section(training.section), **training.fields}


def stage_fields(config: RunConfig, training: Training) -> dict[str, Any]:
    """The library's fields of one training stage, the shared ones included, our global batch size not."""
    return {k: v for k, v in _set_fields(config, training).items() if k != GLOBAL_BATCH}


@cache
def _fields(section: str) -> set[str]:
    return {f.name for f in dataclasses.fields(config_class(section)) if f.init} | {GLOBAL_BATCH}


def passed_fields(section: str) -> frozenset[str]:
    """The fields of a section that pass through to its library."""
    own = SECTIONS[section]
    return frozenset(name for name in PASSED | own.passed if own.sets(name) is None)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def batch_fields_are_sound(config: RunConfig, training: Training) -> bool:
    """Whether one can compute with the stage's batch sizes at all; `field_problems` says what is wrong with them."""
    fields = _set_fields(config, training)
    return all(_positive(fields[name]) for name in BATCH_FIELDS if name in fields)


def micro_batch_size(config: RunConfig, training: Training) -> int:
    """Examples in one forward pass on one process."""
    return int(stage_fields(config, training).get("per_device_train_batch_size", 8))


def validation_fields(config: RunConfig, training: Training) -> dict[str, Any]:
    """Where a stage holds out rows, and nothing else is set: they are measured ten times, in blocks of a micro batch."""
    if not training.validation:
        return {}
    return {"eval_strategy": "steps", "eval_steps": 0.1, "per_device_eval_batch_size": micro_batch_size(config, training)}


def checkpoints_kept(config: RunConfig, training: Training) -> int | None:
    """How many checkpoints of a stage stay, or None for all of them: `save_total_limit`, which is 2 unless it is set."""
    limit = stage_fields(config, training).get("save_total_limit", 2)
    return limit if limit is not None and limit > 0 else None


def weights_dtype(config: RunConfig, training: Training) -> str:
    """In which dtype a stage holds the weights that it trains: float32 where nothing else keeps them so, because bfloat16 loses
    small updates. DeepSpeed keeps float32 copies of its own; PEFT's adapters are float32 beside a base that is not trained."""
    return "float32" if config.deepspeed is None and training.lora is None else config.model.dtype


def accumulation_steps(config: RunConfig, training: Training, world_size: int) -> int:
    """Micro-steps in one optimiser step: derived from `train_batch_size` where that is set.

    Raises:
        ValueError: the global batch does not divide, with the values that would.
    """
    fields = _set_fields(config, training)
    micro, explicit = micro_batch_size(config, training), fields.get("gradient_accumulation_steps")
    if (total := fields.get(GLOBAL_BATCH)) is None:
        return int(explicit or 1)
    if total % (micro * world_size):
        fits = [m for m in range(1, total + 1) if total % (m * world_size) == 0]
        advice = f"per_device_train_batch_size can be {', '.join(map(str, fits))}"
        if not fits:  # it is no multiple of the processes
            below = total // world_size * world_size
            sizes = [size for size in (below, below + world_size) if size]
            fewer = [n for n in range(1, min(total, world_size) + 1) if total % n == 0]
            advice = (
                f"train_batch_size can be {' or '.join(map(str, sizes))}, or another multiple of {world_size}; {total} divides "
                f"into {', '.join(map(str, fewer))} processes"
            )
        raise ValueError(
            f"train_batch_size={total} does not divide into {world_size} processes x "
            f"per_device_train_batch_size={micro}; {advice}."
        )
    steps = total // (micro * world_size)
    if explicit not in (None, steps):
        raise ValueError(
            f"gradient_accumulation_steps={explicit} contradicts train_batch_size={total}, which needs {steps}; "
            "set one of the two."
        )
    return int(steps)


def field_problems(config: RunConfig) -> list[str]:
    """Everything wrong with the pass-through sections."""
    problems = []
    used = tuple(dict.fromkeys(training.section for training in config.training))
    for section in SECTIONS:
        if config.section(section) and section not in used:
            problems.append(f"{section}: method={config.method.name} has no {section} stage; remove this section.")
    for section in used:
        own = config.section(section)
        for name in own.keys() & config.trainer.keys():
            if all(name in _fields(s) for s in used):
                problems.append(
                    f"trainer.{name}: also set as {section}.{name}, and which one counts would be a guess; "
                    f"set {', '.join(f'{s}.{name}' for s in used)} or trainer.{name}, not both."
                )
        problems += [p for name, value in own.items() for p in _one(section, name, value, section)]
    for name, value in config.trainer.items():
        found = [p for section in used for p in _one("trainer", name, value, section)]
        problems += found[:1]  # one line per mistake, however many stages share the field
    return problems or _without_validation(config, used)


def _without_validation(config: RunConfig, used: Sequence[str]) -> list[str]:
    """Fields about rows that are held out, where none are."""
    watched = {training.section for training in config.training if training.validation}
    written = [(section, name) for section in used if section not in watched for name in config.section(section)]
    written += [("trainer", name) for name in config.trainer if not watched]
    return [
        f"{section}.{name}: no rows are held out of what it trains on, so it would do nothing; set data.validation, where the "
        "data has that key, or remove this."
        for section, name in written
        if name in VALIDATION
    ]


def _one(written_in: str, name: str, value: Any, section: str) -> list[str]:
    key = f"{written_in}.{name}"
    if value == "???":  # OmegaConf's sign for: the experiment leaves it to the user
        return [f"{key}: must be set; this experiment has no value of its own for this model."]
    if (name in BATCH_FIELDS or (name == "max_length" and value is not None)) and not _positive(value):
        return [f"{key}: must be a positive integer (got {value!r})"]
    if name == GLOBAL_BATCH:
        return []
    own, cls = SECTIONS[section], config_class(section)
    if (instead := own.sets(name) or SET_ELSEWHERE.get(name)) is not None:
        return [f"{key}: is set by {instead}; remove it here."]
    if name not in _fields(section):
        others = [s for s in SECTIONS if s != section and name in _fields(s)]
        if others:
            return [f"{key}: {cls.__name__} has no such field; set {others[0]}.{name}, where it belongs."]
        hint = did_you_mean(name, passed_fields(section), "see its documentation.")
        return [f"{key}: unknown field of {cls.__name__}; {hint}"]
    if name not in passed_fields(section):
        return [f"{key}: is new in this version of {cls.__name__}, and nobody has said what it does here; remove it."]
    if (choices := own.choices.get(name, CHOICES.get(name))) is not None:
        wrong = [one for one in (value if isinstance(value, list) else [value]) if one not in choices]
        if wrong:
            return [f"{key}: must be one of {', '.join(map(str, choices))} (got {wrong[0]!r})"]
    return [f"{key}: {problem} (got {value!r})" for problem in type_problems(cls, name, value)]


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def type_problems(cls: type, name: str, value: Any) -> list[str]:
    """Why a value cannot be that of a field of a library's class."""
    annotation = _hints(cls)[name]
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if isinstance(value, str):
        for option in options:  # `SchedulerType | str` means: a name of the enum
            if isinstance(option, type) and issubclass(option, Enum):
                names = [str(member.value) for member in option]
                return [] if value in names else [f"must be one of {', '.join(names)}"]
    try:
        read = TypeAdapter(annotation).validate_python(value)
        if isinstance(value, (str, bool, float)) and type(read) is not type(value):
            return [f"must be {type(read).__name__}, and is written as {type(value).__name__}"]  # the library would not convert
        if name in RANGES and value is not None:
            TypeAdapter(RANGES[name]).validate_python(value)
    except ValidationError as error:
        return [error.errors()[0]["msg"]]
    except PydanticSchemaGenerationError:
        return []  # a type pydantic knows nothing of: the class itself will check it
    return []
