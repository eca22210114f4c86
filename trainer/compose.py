"""From the command line to plain values: what Hydra composes, and what the runs of a sweep are called."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.errors import ConfigError
from trainer.suggest import did_you_mean

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
    """The plain config that `python -m trainer` with these overrides would load; of its options `--config-dir DIR` alone.

    Raises:
        ConfigError: Hydra does not accept them.
    """
    overrides = with_own_folder(arguments)
    try:
        with initialize_config_module("trainer.conf", version_base="1.3"):
            return plain_values(compose("config", overrides=lenient(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise in_our_words(error) from error


def with_own_folder(arguments: Sequence[str]) -> list[str]:
    """The overrides among the arguments, a folder of `--config-dir` as one more of them.

    Raises:
        ConfigError: that folder is not there, or another option is.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd")
    try:
        given, overrides = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(f"--config-dir: {error.message}; give a folder with a launcher/, experiment/ or the like.") from error
    if options := [argument for argument in overrides if argument.startswith("-")]:
        raise ConfigError([f"{option}: no such option here; --config-dir is the only one." for option in options])
    if given.config_dir is None:
        return overrides
    folder = Path(given.config_dir).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir: {folder} is no folder; give one with a launcher/, experiment/ or the like.")
    return [*overrides, f"hydra.searchpath=[{_quoted(f'file://{folder}')}]"]


def in_our_words(error: Exception) -> ConfigError:
    """What Hydra or OmegaConf found wrong with the command line, and what to do."""
    if isinstance(error, OverrideParseException):
        override = error.override.lstrip("+")
        key, equals, value = override.partition("=")
        if not equals:
            return ConfigError(f"{override}: is neither an option nor key=value; --help shows both.")
        return ConfigError(
            f"{key}: {value} cannot be read: outside quotes = , : ( ) {{ }} [ ] mean something of their own, and letters "
            f"beyond a to z nothing. Where they are part of the value, put it into quotes, and all of it into the shell's: "
            f"'{key}={_quoted(value)}'"
        )
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return ConfigError(f"{group}: Could not find '{group}/{option}'; {did_you_mean(option, error.options)}")
    causes = [str(part).strip() for part in (error, error.__cause__) if part is not None]
    return ConfigError("\n".join(cause for cause in causes if cause))


def _quoted(value: str) -> str:
    """As a string of Hydra's grammar."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def points_of(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The runs of a plain sweep with these arguments: what sets each apart -> its overrides.

    Raises:
        ConfigError: Hydra does not accept them.
    """
    overrides = with_own_folder(arguments)
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise in_our_words(error) from error
    return {",".join(own_overrides(job, overrides)) or "(one run)": list(job) for job in batch}


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
