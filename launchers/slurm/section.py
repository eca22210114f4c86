"""Nodes of a Slurm cluster, as a section of a config."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from launchers.slurm.allocation import AllocationLauncher
from launchers.slurm.check import slurm_problems
from launchers.slurm.scheduler import SlurmScheduler
from launchers.slurm.size import StageSize
from trainer.config.bases import LauncherSection, Scheduler
from trainer.config.section import section
from trainer.config.sections import Gpu

if TYPE_CHECKING:
    from trainer.config.run import RunConfig


@section
class SlurmLauncher(LauncherSection):
    """Nodes of a Slurm cluster. What is true of a cluster rather than of a run (partition, account, modules, network,
    scratch) belongs in a file of its own in `conf/launcher/`.

    nodes, gpus_per_node: what to ask for; `gpus_per_node=0` is a CPU job.
    gpu: which GPU the nodes have, for `plan` to compare with. It asks Slurm for nothing: that is `constraint`.
    processes_per_node: ranks on a node; null is one a GPU (one where there is none).
    task: what a Slurm task is: a `rank`, or a `node` whose one task starts the node's ranks.
    cpus_per_task, mem, time, partition, account, qos, constraint, reservation: sbatch's options of that name.
    sbatch: further sbatch options, each as on its command line: ["--exclusive", "--mail-type=FAIL"].
    signal, signal_lead: which signal Slurm sends every task before the time limit, and how many seconds before.
    max_requeues: how often a job that was stopped by that signal may go back into the queue.
    modules: environment modules to load. setup: shell lines to run before anything else, on the batch node.
    environment: variables for every task. Their values stand in no file and on no screen: they go with the submission.
    pass_environment: names of variables to take from the environment that submits: the way for tokens and passwords.
    container, container_mounts: an image for `srun --container-image`, and its mounts.
    network_interface: for NCCL and Gloo, such as ib0.
    scratch: a node-local directory, `$VARIABLES` in it expanded on the node; model and data are copied there first.
    python: the interpreter on the nodes; null is the one that submits.
    offline: tell the Hugging Face libraries that there is no network on the nodes (W&B: `tracking.mode`).
    per_stage: one job a stage, each waiting for the one before it (afterok). stages: sizes of such jobs, by stage.
    array_throttle: how many jobs of a sweep may run at a time; null is all.
    grace: seconds between asking ranks to stop and killing them.
    """

    name: Literal["slurm"]
    nodes: int = Field(1, gt=0)
    gpus_per_node: int = Field(8, ge=0)
    gpu: Gpu | None = None
    processes_per_node: int | None = Field(None, gt=0)
    task: Literal["rank", "node"] = "rank"
    cpus_per_task: int | None = Field(None, gt=0)
    mem: str | None = None
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    sbatch: list[str] = Field(default_factory=list)
    signal: Literal["USR2", "TERM"] = "USR2"
    signal_lead: int = Field(300, gt=0)
    max_requeues: int = Field(10, ge=0)
    modules: list[str] = Field(default_factory=list)
    setup: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    pass_environment: list[str] = Field(default_factory=list)
    container: str | None = None
    container_mounts: list[str] = Field(default_factory=list)
    network_interface: str | None = None
    scratch: str | None = None
    python: str | None = None
    offline: bool = True
    per_stage: bool = False
    stages: dict[str, StageSize] = Field(default_factory=dict)
    array_throttle: int | None = Field(None, gt=0)
    grace: float = Field(30.0, ge=0)

    more: ClassVar[str] = "nodes"
    withheld: ClassVar[tuple[str, ...]] = ("environment",)

    @property
    def scheduler(self) -> Scheduler:
        return SlurmScheduler(self)

    def size(self, stage: str) -> tuple[int, int]:
        """(nodes, ranks on each) of a distributed stage."""
        own = self._own_size(stage)
        return own.nodes or self.nodes, own.processes_per_node or self.processes_per_node or self._gpus(own) or 1

    def _own_size(self, stage: str | None) -> StageSize:
        return self.stages.get(stage or "", StageSize()) if self.per_stage else StageSize()

    def _gpus(self, own: StageSize) -> int:
        return self.gpus_per_node if own.gpus_per_node is None else own.gpus_per_node

    def world_size(self, stage: str) -> int:
        nodes, ranks = self.size(stage)
        return nodes * ranks

    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        AllocationLauncher(self).start(run_dir, stage, distributed)

    def problems(self, config: RunConfig, stages: Sequence[str]) -> list[str]:
        return slurm_problems(self, config.tracking.mode, stages)

    def wants_gpus(self, stage: str | None = None) -> bool | None:
        return self._gpus(self._own_size(stage)) > 0

    def node_name(self) -> str | None:
        return os.environ.get("SLURMD_NODENAME")  # sbatch's --exclude wants that name

    @property
    def scratch_directory(self) -> str | None:
        return self.scratch

    @property
    def signalled_before(self) -> int | None:
        return self.signal_lead
