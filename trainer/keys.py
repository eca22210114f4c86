"""Every key of a config, with its default and its meaning: `python -m trainer.keys`; of one section:
`python -m trainer.keys method.dsa`. The fields of TRL's, Transformers', PEFT's and DeepSpeed's own classes stand in their
documentation."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from trainer.config import bases
from trainer.config.section import KINDS
from trainer.config.training import SECTIONS
from trainer.ending import explain
from trainer.errors import ConfigError
from trainer.kinds import CONFIG
from trainer.suggest import did_you_mean
from trainer.terminal import prepare


def sections() -> dict[str, type]:
    """Name -> class of every section: `run`, `model`, `method.dsa`, ..."""
    found: dict[str, Any] = {
        name: cls for name, cls in get_type_hints(CONFIG).items() if is_dataclass(cls) and name not in KINDS
    }
    groups = [group for group in KINDS if group in get_type_hints(CONFIG)]  # others choose inside a section
    kinds = {f"{group}.{kind}": cls for group in groups for kind, cls in KINDS[group].classes.items()}
    return {**found, **kinds}


def described(name: str, cls: type) -> list[str]:
    """A section as lines: what it is, and its keys with their defaults, those of sections inside it too."""
    documented = [base for base in reversed(cls.__mro__) if is_dataclass(base) and base.__module__ != bases.__name__]
    docs = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in documented)
    lines = [name, *(f"    {line}".rstrip() for line in docs.splitlines()), ""]
    hints, inner = get_type_hints(cls), {}
    for one in fields(cls):  # type: ignore[arg-type]  # pydantic dataclasses are dataclasses
        lines.append(f"    {one.name} = {_shown(one.default)}")
        annotation = hints[one.name]
        for part in (annotation, *get_args(annotation)):
            if isinstance(part, type) and is_dataclass(part):
                inner[one.name] = part
    return [*lines, "", *(line for key, section in inner.items() for line in described(f"{name} / {key}", section))]


def _shown(default: Any) -> str:
    if hasattr(default, "get_default"):
        default = default.get_default(call_default_factory=True)
    text = repr(default)
    return "(must be set)" if "Undefined" in text or "MISSING" in text else "(a section)" if is_dataclass(default) else text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.keys", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = sections()
    parser.add_argument("section", nargs="?", metavar="SECTION", help=", ".join(known))
    name = parser.parse_args(arguments).section
    if name is not None and name not in known:
        return explain(ConfigError(f"{name}: no such section; {did_you_mean(name, known)}"))
    for section in known if name is None else [name]:
        print("\n".join(described(section, known[section])))
    if name is None:
        passed = ", ".join(f"{section} ({one.fields_of.replace(':', '.')})" for section, one in SECTIONS.items())
        print(f"trainer and {passed} take fields of those classes.")
        print("model.lora takes fields of peft.LoraConfig, deepspeed takes DeepSpeed's JSON.")
    return 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
