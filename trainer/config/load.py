"""A plain mapping -> `RunConfig`, with all problems collected: unknown keys, wrong types, then what cannot work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from trainer.config.check import find_problems
from trainer.config.mirror import use_mirror
from trainer.config.run import RunConfig, plain_yaml
from trainer.config.section import KINDS, OneOf
from trainer.dotted import resolve
from trainer.errors import ConfigError
from trainer.record import why_foreign
from trainer.suggest import did_you_mean


def _schema() -> type[RunConfig]:
    """By name: it is made of all kinds, and nothing here knows any."""
    schema: type[RunConfig] = resolve("trainer.kinds:CONFIG")
    return schema


def load_config(values: Mapping[str, Any], base_dir: Path | None = None) -> RunConfig:
    """Build and check a config.

    Args:
        values: a plain mapping, nothing of OmegaConf in it.
        base_dir: what relative paths in it are relative to; default: the current directory.

    Raises:
        ConfigError: with every problem found, one line each.
    """
    adapter, problems = TypeAdapter(_schema()), []
    try:
        config = adapter.validate_python(dict(values))
    except ValidationError as error:
        problems = [_explain(e) for e in error.errors()]
        try:  # what is wrong with the rest must show too
            config = adapter.validate_python(_without(values, [_place(e["loc"]).keys for e in error.errors()]))
        except ValidationError:
            raise ConfigError(problems) from None
    try:
        use_mirror(config.paths.mirror)
    except ConfigError as error:
        problems += error.problems
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
    """The resolved config of a run directory, whoever wrote it: it grants nothing, so `model.trust_remote_code` is false.

    Raises:
        ConfigError: the file is not a config of this version.
    """
    config: Any = _read(path)
    return replace(config, model=replace(config.model, trust_remote_code=False))


def read_own_config(path: Path) -> RunConfig:
    """The resolved config of a run that this user started, with all rights that they gave it: what jobs and ranks read. It was
    checked when it was written.

    Raises:
        ConfigError: the file is not a config of this version, or somebody else wrote it or may have.
    """
    if path.exists() and (why := why_foreign(path)):
        raise ConfigError(f"{path}: {why}, and a run does what its config says; start the run yourself (python -m trainer).")
    config = _read(path)
    use_mirror(config.paths.mirror)
    return config


def _read(path: Path) -> RunConfig:
    try:
        return TypeAdapter(_schema()).validate_python(plain_yaml(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be read as a run's config: {error}") from error


@dataclass(frozen=True)
class _Place:
    """Where in a config something is.

    Attributes:
        keys: as the user writes them; pydantic puts the kind of a section into its path as well.
        section: the class of the innermost section; None where that is not known.
        kind: the innermost choice between kinds: its group, where it stands, and the kind, None where none was chosen.
    """

    keys: tuple[str, ...]
    section: type | None
    kind: tuple[str, str, str | None] | None


def _place(location: Sequence[Any]) -> _Place:
    """The place at a pydantic path such as ('launcher', 'slurm', 'nodes')."""
    section: type | None = _schema()
    keys: list[str] = []
    kind = None
    parts = [str(part) for part in location]
    while parts:
        keys.append(parts.pop(0))
        if section is None:
            continue
        annotation = get_type_hints(section, include_extras=True).get(keys[-1])
        if get_origin(annotation) is dict and parts:  # of sections, by name
            keys.append(parts.pop(0))
            annotation = get_args(annotation)[1]
        if group := _group(annotation):
            classes = KINDS[group].classes
            chosen = parts.pop(0) if parts and parts[0] in classes else None
            section, kind = classes.get(chosen or ""), (group, ".".join(keys), chosen)
        else:
            section = next((a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and is_dataclass(a)), None)
    return _Place(tuple(keys), section, kind)


def _group(annotation: Any) -> str | None:
    """The kinds that an annotation lets one choose from."""
    found = [a.group for a in getattr(annotation, "__metadata__", ()) if isinstance(a, OneOf)]
    inner = (_group(a) for a in get_args(annotation))
    return found[0] if found else next((group for group in inner if group), None)


def _explain(error: Any) -> str:
    """One pydantic error as `key: what, do this`."""
    place = _place(error["loc"])
    key = ".".join(place.keys)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: {_unknown(place.keys[-1], _place(error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"{key}: missing; set it on the command line or choose an experiment that does."
    if error["type"].startswith("union_tag") and place.kind is not None:
        kinds = KINDS[place.kind[0]]
        if error["type"] == "union_tag_not_found":
            choices = ", ".join(kinds.classes)
            return f"{key}.{kinds.key}: missing; choose {key}=... on the command line, or set it to one of {choices}."
        given = error["input"].get(kinds.key) if isinstance(error["input"], Mapping) else error["input"]
        return f"{key}.{kinds.key}: unknown {given!r}; {did_you_mean(str(given), list(kinds.classes))}"
    return f"{key}: {error['msg']} (got {error['input']!r})"


def _unknown(name: str, place: _Place) -> str:
    """What to say of a key that the section at `place` does not have; another kind of this section may have it."""
    if place.kind is not None and place.kind[2] is not None:
        group, where, chosen = place.kind
        kinds = KINDS[group]
        others = [kind for kind, cls in kinds.classes.items() if name in get_type_hints(cls)]
        if others and where == ".".join(place.keys):
            return f"{where}.{kinds.key}={chosen} has no such key; remove it, or choose one that has it: {', '.join(others)}."
    return f"unknown key; {did_you_mean(name, [] if place.section is None else get_type_hints(place.section))}"
