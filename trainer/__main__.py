"""Train and evaluate: `python -m trainer experiment=cosalign launcher.processes=2`. `--help` shows what there is to set.

Hydra composes once, here. Below this file nothing has seen OmegaConf.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer.errors import ConfigError, KeelError

_OVERRIDE = re.compile(r"^([A-Za-z_][\w.]*)=")


def lenient(arguments: list[str]) -> list[str]:
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


def swept(arguments: list[str]) -> set[str]:
    """The keys that a sweep varies: `seed` in `-m seed=0,1 data.prompts=20`."""
    parser = OverridesParser.create()
    overrides = parser.parse_overrides([a for a in arguments if "=" in a and not a.startswith("-")])
    return {override.key_or_group for override in overrides if override.is_sweep_override()}


def plain_values(composed: DictConfig) -> dict[str, Any]:
    """The composed config as a plain mapping, every interpolation resolved. In a sweep each job gets its own run name."""
    values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict)
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN and isinstance(values.get("run"), dict):
        varied = swept(sys.argv[1:])
        job = [override.lstrip("+") for override in hydra_config.overrides.task]
        suffix = ",".join(override for override in job if override.split("=")[0] in varied)
        values["run"]["name"] = f"{values['run']['name']}/{re.sub(r'[^A-Za-z0-9_.,=+-]', '_', suffix)}"
    return {str(key): value for key, value in values.items()}


@hydra.main(version_base="1.3", config_path="pkg://trainer.conf", config_name="config")
def main(composed: DictConfig) -> None:
    from omegaconf.errors import OmegaConfBaseException

    try:
        try:
            values = plain_values(composed)
        except OmegaConfBaseException as error:
            raise ConfigError(str(error)) from error
        from trainer.config.load import load_config
        from trainer.evaluation.report import print_report
        from trainer.run import carry_out

        print_report(carry_out(load_config(values)))
    except KeelError as error:
        lines = error.problems if isinstance(error, ConfigError) else [str(error)]
        title = f"{len(lines)} problems with this config" if len(lines) > 1 else type(error).__name__
        print(f"\n{title}:", *(f"  - {line}" for line in lines), sep="\n", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues from here", file=sys.stderr, flush=True)
        sys.exit(130)


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    sys.argv[1:] = lenient(sys.argv[1:])
    main()
