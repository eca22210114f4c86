"""A plain mapping -> `RunConfig`, with all problems collected: unknown keys, wrong types, then what cannot work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from trainer.config.check import find_problems
from trainer.config.schema import KINDS, RunConfig
from trainer.errors import ConfigError
from trainer.suggest import did_you_mean


def load_config(values: Mapping[str, Any], base_dir: Path | None = None) -> RunConfig:
    """Build and check a config.

    Args:
        values: a plain mapping, nothing of OmegaConf in it.
        base_dir: what relative paths in it are relative to; default: the current directory.

    Raises:
        ConfigError: with every problem found, one line each.
    """
    adapter, problems = TypeAdapter(RunConfig), []
    try:
        config = adapter.validate_python(dict(values))
    except ValidationError as error:
        problems = [_explain(e) for e in error.errors()]
        try:  # what is wrong with the rest must show too
            config = adapter.validate_python(_without(values, [_location(e) for e in error.errors()]))
        except ValidationError:
            raise ConfigError(problems) from None
    if problems := [*problems, *find_problems(config, base_dir or Path.cwd())]:
        raise ConfigError(problems)
    return config


def _without(values: Mapping[str, Any], locations: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A copy of the mapping that lacks the keys at these paths."""
    copy = deepcopy(dict(values))
    for location in locations:
        section: Any = copy
        for part in location[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.pop(location[-1], None)
    return copy


def read_config(path: Path) -> RunConfig:
    """The resolved config of a run directory, as every rank reads it. It was checked when it was written.

    Raises:
        ConfigError: the file is not a config of this version.
    """
    try:
        return TypeAdapter(RunConfig).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be read as a run's config: {error}") from error


def to_mapping(config: RunConfig) -> dict[str, Any]:
    return asdict(config)  # type: ignore[call-overload]  # pydantic dataclasses are dataclasses


def write_config(config: RunConfig, path: Path) -> None:
    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))


def _location(error: Any) -> tuple[Any, ...]:
    """Where in the mapping an error is. Pydantic puts the kind of section into the path; the mapping has no such level."""
    location = tuple(error["loc"])
    return (location[0], *location[2:]) if location[0] in KINDS and len(location) > 1 else location


def _explain(error: Any) -> str:
    """One pydantic error as `key: what, do this`."""
    location = [str(part) for part in _location(error)]
    key = ".".join(location)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: unknown key; {did_you_mean(location[-1], _fields_at(error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"{key}: missing; set it on the command line or choose an experiment that does."
    if error["type"].startswith("union_tag"):
        tag, kinds = KINDS[key]
        if error["type"] == "union_tag_not_found":
            return f"{key}.{tag}: missing; choose {key}=... on the command line, or set it to one of {', '.join(kinds)}."
        given = str(error["input"].get(tag))
        return f"{key}.{tag}: unknown {given!r}; {did_you_mean(given, list(kinds))}"
    return f"{key}: {error['msg']} (got {error['input']!r})"


def _fields_at(location: Sequence[Any]) -> list[str]:
    """The field names of the section at a pydantic path such as ('model', 'lora') or ('launcher', 'slurm')."""
    section: Any = RunConfig
    if len(location) > 1 and location[0] in KINDS:
        section, location = KINDS[location[0]][1][location[1]], location[2:]
    is_key = False  # of a mapping of sections
    for part in location:
        if is_key:
            is_key = False
            continue
        annotation = get_type_hints(section)[str(part)]
        is_key = get_origin(annotation) is dict
        section = next((a for a in (annotation, *get_args(annotation)) if is_dataclass(a)), section)
    return list(get_type_hints(section))
