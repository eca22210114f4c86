"""From the command line to plain values: what Hydra composes, and what the runs of a sweep are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.errors import ConfigError

_OVERRIDE = re.compile(r"^([A-Za-z_][\w.]*)=")


def lenient(arguments: Sequence[str]) -> list[str]:
    """Let every `key=value` reach our own check, which reports all unknown keys at once and names the nearest ones.

    Hydra stops at the first key it does not know; `++key=value` makes it add the key instead.
    """
    conf = files("trainer.conf")
    groups = {entry.name for entry in conf.iterdir() if entry.is_dir()}
    rewritten = []
    for argument in arguments:
        match = _OVERRIDE.match(argument)
        is_key = match is not None and match.group(1) not in groups and not match.group(1).startswith("hydra.")
        rewritten.append(f"++{argument}" if is_key else argument)
    return rewritten


def composed(arguments: Sequence[str]) -> dict[str, Any]:
    """The plain config that `python -m trainer` with these overrides would load.

    Raises:
        ConfigError: Hydra does not accept them.
    """
    try:
        with initialize_config_module("trainer.conf", version_base="1.3"):
            return plain_values(compose("config", overrides=lenient(arguments)))
    except HydraException as error:
        raise ConfigError(str(error)) from error


def own_overrides(job: Sequence[str], command: Sequence[str]) -> tuple[str, ...]:
    """What sets one run of a sweep apart: `("seed=0",)`. Sorted: the order on the command line makes no difference.

    Args:
        job: all overrides of that run.
        command: the overrides of the sweep; those that give one value are the same for every run.
    """
    parsed = OverridesParser.create().parse_overrides(list(command))
    fixed = {override.key_or_group for override in parsed if not override.is_sweep_override()}
    own = (override.lstrip("+") for override in job)
    return tuple(sorted(override for override in own if override.split("=", 1)[0] not in fixed))


def run_name(base: str, own: Sequence[str]) -> str:
    """`<base>/<what sets the run apart>`, in characters that a directory may have."""
    suffix = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", ",".join(own))
    return f"{base}/{suffix}" if suffix else base


def plain_values(composed: DictConfig) -> dict[str, Any]:
    """A composed config as a plain mapping, every interpolation resolved.

    Raises:
        ConfigError: an interpolation leads nowhere.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
