"""Hydra's side of our sweeps. Hydra takes launchers and sweepers only from the namespace `hydra_plugins`, which every
program that uses Hydra imports at its start: so nothing but the two classes is here, and the work is in `trainer/sweep/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class KeelLauncher(Launcher):
    """`hydra/launcher=keel`: the runs of a sweep one after another here, or as one job array on Slurm."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader = hydra_context.config_loader
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from trainer.sweep.launch import launch

        return launch(self.loader, self.config, job_overrides, initial_job_idx)


class OptunaSweeper(Sweeper):
    """`hydra/sweeper=optuna`: Optuna chooses the next runs by the objective of those before."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from trainer.sweep.optimise import Search, optimise

        assert self.config is not None and self.launcher is not None  # Hydra has called setup
        optimise(Search(config=self.config, launcher=self.launcher, **self.settings), arguments)
