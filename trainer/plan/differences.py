"""The non-default settings of a resolved config."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainer.config.run import RunConfig, to_mapping
from trainer.config.training import GLOBAL_BATCH, SECTIONS, config_class

LEFT_OUT = ("model.shape", "model.random_init")  # shown with the model


class Difference(NamedTuple):
    key: str
    value: str
    default: str


def differences(config: RunConfig) -> list[Difference]:
    """One row for every key whose value is not the default: of the schema, of TRL's config class, of DeepSpeed."""
    rows = []
    values = to_mapping(config)
    for name in values:
        section = getattr(config, name)
        if is_dataclass(section):
            rows += _of_section(name, section, values[name])
        elif name == "trainer" or name in SECTIONS:
            rows += _of_trl(name, config.training[0].section if name == "trainer" else name, values[name])
        elif name == "deepspeed":
            rows += [Difference(f"{name}.{key}", _text(value), "DeepSpeed's") for key, value in _leaves(values[name] or {})]
        else:
            field = next(f for f in fields(config) if f.name == name)
            rows += _row(name, values[name], _default(field))
    return [row for row in rows if row.key not in LEFT_OUT]


def _of_section(name: str, section: Any, values: dict[str, Any]) -> list[Difference]:
    return [row for f in fields(section) for row in _row(f"{name}.{f.name}", values[f.name], _default(f))]


def _default(field: Field[Any]) -> Any:
    """Of a schema field, which may be a plain value or pydantic's description of one; MISSING where it must be set."""
    default = field.default
    if isinstance(default, FieldInfo):
        default = default.get_default(call_default_factory=True)
    return MISSING if default is PydanticUndefined else default


def _of_trl(name: str, section: str, values: dict[str, Any]) -> list[Difference]:
    defaults = {f.name: f.default for f in fields(config_class(section))}
    rows = []
    for key, value in values.items():
        default = (
            "follows from the micro batch" if key == GLOBAL_BATCH else getattr(defaults.get(key), "value", defaults.get(key))
        )
        rows += _row(f"{name}.{key}", value, default)
    return rows


def _leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found


def _row(key: str, value: Any, default: Any) -> list[Difference]:
    return [] if value == default else [Difference(key, _text(value), _text(default))]


def _text(value: Any) -> str:
    if value is MISSING:
        return "(must be set)"
    if is_dataclass(value):
        return "(its own defaults)"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
