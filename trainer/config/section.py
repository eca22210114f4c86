"""What every section of a config is: a frozen dataclass that refuses unknown keys, and a choice between several kinds."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Union

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass

section = dataclass(
    # Kinds are known only when all are listed. A name may be a number: a partition 3090, an account 1234.
    frozen=True,
    config=ConfigDict(extra="forbid", defer_build=True, coerce_numbers_to_str=True),
)


@plain_dataclass(frozen=True)
class Kinds:
    """Attributes: key: the key of a section that says which kind it is; classes: kind -> its class."""

    key: str
    classes: dict[str, type]


KINDS: dict[str, Kinds] = {}  # filled by trainer/kinds.py, which is the only place that lists kinds


class OneOf:
    """In an annotation: a section of one of the kinds that are listed under this name."""

    def __init__(self, group: str):
        self.group = group

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        kinds = KINDS[self.group]
        union: Any = Union[tuple(kinds.classes.values())]  # noqa: UP007  # made of a list
        chosen: Any = Annotated[union, Field(discriminator=kinds.key)]
        return handler.generate_schema(chosen)
