"""Train and evaluate: `python -m trainer experiment=cosalign launcher.processes=2`. `--help` shows what there is to set.

Hydra composes once, here; for a sweep, once per run, in `trainer/sweep/`. Below that nothing has seen OmegaConf.
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
from launchers.foreign import why_refused
from trainer.compare.of_run import leave_report
from trainer.compose import in_our_words, lenient, plain_values
from trainer.ending import CONTINUES, KEYBOARD, explain
from trainer.errors import ConfigError, KeelError, StageFailed
from trainer.evaluation.report import print_report
from trainer.job import run_in_job
from trainer.pipeline.chain import chain
from trainer.pipeline.run import alone, carry_out, claim_directory
from trainer.terminal import prepare

_FULL_ERROR = "HYDRA_FULL_ERROR"
_NOT_HERE = {  # options of Hydra's own -> why they lead nowhere
    "-sc": "Hydra completes the names of scripts, not `python -m trainer`; --help lists the groups and their options.",
    "--experimental-rerun": "no jobs are pickled here; the same command again resumes a run.",
}
_NOT_HERE["--shell-completion"] = _NOT_HERE["-sc"]


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
    from trainer.config.load import load_config  # heavy: --help does without

    config = load_config(plain_values(composed))
    scheduler = config.launcher.scheduler
    if scheduler is None:
        run_dir = carry_out(config)
        print_report(config, run_dir)
        leave_report(run_dir)
        return 0
    with alone(config):
        run_dir = claim_directory(config)
        if scheduler.inside():
            scheduler.note(run_dir)
            return run_in_job(config, run_dir)
        submission = scheduler.submit(config, run_dir, chain(config))
    print(*scheduler.follow(submission), sep="\n", flush=True)
    return 0


def main(arguments: list[str]) -> int:
    """Run the command. Returns the exit status, see `trainer/errors.py`."""
    refused = [f"{option}: {_NOT_HERE[option]}" for option in arguments if option in _NOT_HERE]
    if refused or (refused := [why for why in [why_refused(os.environ)] if why is not None]):
        return explain(ConfigError(refused))
    sys.argv[1:] = lenient(arguments) or ["--help"]
    for plugin in (KeelLauncher, OptunaSweeper):  # Hydra's own search does not see into an editable install
        Plugins.instance().register(plugin)
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"  # Hydra then raises what went wrong; otherwise it prints it and exits with status 1
    try:
        one_run()
    except KeelError as error:
        return explain(error)
    except (HydraException, OmegaConfBaseException) as error:
        if before == "1":
            raise
        return explain(in_our_words(error))
    except OSError as error:  # a disk that is full, a directory that went away
        return explain(StageFailed(f"{error.filename or 'a file'}: {error.strerror or error}; mend that, and start again."))
    except KeyboardInterrupt:
        print(f"\n{CONTINUES}", file=sys.stderr, flush=True)
        return KEYBOARD
    finally:  # ranks and later commands of this process are not to see it
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before
    return 0


def command() -> int:
    """`keel-train`, and `python -m trainer`."""
    prepare()
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(command())
