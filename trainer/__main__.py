"""Train and evaluate: `python -m trainer experiment=cosalign launcher.processes=2`. `--help` shows what there is to set.

Hydra composes once, here; for a sweep, once a run, in `trainer/sweep/`. Below that nothing has seen OmegaConf.
"""

from __future__ import annotations

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.keel import KeelLauncher, OptunaSweeper
from trainer.compose import lenient, plain_values
from trainer.ending import CONTINUES, KEYBOARD, explain
from trainer.errors import ConfigError, KeelError

_FULL_ERROR = "HYDRA_FULL_ERROR"


@hydra.main(version_base="1.3", config_path="pkg://trainer.conf", config_name="config")
def one_run(composed: DictConfig) -> None:
    """Carry out one run, or submit it. The runs of a sweep go through our Hydra launcher instead."""
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ConfigError("hydra/launcher: a sweep needs hydra/launcher=keel; launcher=local or slurm says where it runs.")
        sys.exit(_start(composed))
    except KeelError as error:
        sys.exit(explain(error))


def _start(composed: DictConfig) -> int:
    from trainer.config.load import load_config
    from trainer.config.schema import SlurmLauncher
    from trainer.evaluation.report import print_report
    from trainer.run import carry_out, claim_directory, run_directory, submits_to_slurm

    config = load_config(plain_values(composed))
    if submits_to_slurm(config):
        from launchers.slurm.submit import how_to_follow, refuse_twice, submit_run

        refuse_twice(run_directory(config))  # before on_existing=overwrite can delete what a job is working on
        print(*how_to_follow(submit_run(config, claim_directory(config))), sep="\n", flush=True)
    elif isinstance(config.launcher, SlurmLauncher):
        from trainer.job import run_in_allocation

        return run_in_allocation(config, claim_directory(config))
    else:
        print_report(carry_out(config))
    return 0


def main(arguments: list[str]) -> int:
    """Run the command. Returns the exit status, see `trainer/errors.py`."""
    sys.argv[1:] = lenient(arguments)
    for plugin in (KeelLauncher, OptunaSweeper):  # Hydra's own search does not see into an editable install
        Plugins.instance().register(plugin)
    in_full = os.environ.get(_FULL_ERROR) == "1"
    os.environ[_FULL_ERROR] = "1"  # Hydra then raises what went wrong; otherwise it prints it and exits with status 1
    try:
        one_run()
    except KeelError as error:
        return explain(error)
    except (HydraException, OmegaConfBaseException) as error:
        if in_full:
            raise
        causes = [str(part).strip() for part in (error, error.__cause__) if part is not None]
        return explain(ConfigError("\n".join(cause for cause in causes if cause)))
    except KeyboardInterrupt:
        print(f"\n{CONTINUES}", file=sys.stderr, flush=True)
        return KEYBOARD
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
