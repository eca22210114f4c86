"""Start the ranks of a stage in the Slurm allocation around this process: a batch job, or a shell that salloc gave."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.outcome import prepare_directories, reason_of
from launchers.slurm.address import first_address
from launchers.slurm.commands import show_job, this_job
from launchers.slurm.lost_node import wait_if_a_node_is_lost
from launchers.slurm.ranks import free_port_from, rendezvous_port
from launchers.slurm.render import job_environment, python_of
from launchers.slurm.step import STOP_SIGNALS, Ended, run_step
from trainer.config.run import WITHHELD
from trainer.errors import ConfigError, Interrupted, KeelError, StageFailed

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

SUCCEEDS = "KEEL_SUCCEEDS"  # in a job that continues another: how many there were before it
_EARLY = 60  # seconds: Slurm may send the signal before the time limit this much too soon
_LAST_TASK_WAITS = 60  # seconds from the first task's orderly end to the others' death


class AllocationLauncher:
    """One srun per stage."""

    def __init__(self, settings: SlurmLauncher):
        self.settings = settings

    def start(self, run_dir: Path, stage: str, distributed: bool) -> None:
        nodes, ranks = self.settings.size(stage) if distributed else (1, 1)
        if problem := too_small(os.environ, nodes, ranks, self.settings.task):
            raise ConfigError(problem)
        self._refuse_late_start(stage)
        prepare_directories(run_dir, stage)
        command = self.command(run_dir, stage, nodes, ranks, distributed)
        ended = run_step(command, self.environment(run_dir / stage, nodes, ranks), _slurm_is_ending_us, self.settings.grace)
        if ended.code != 0 or ended.signals:  # which a stage that had finished would have left to the next one
            if self.settings.task == "node":  # these are numbers of nodes, and each has written what became of its ranks
                ended = replace(ended, tasks={})
            reason = _reason(run_dir, stage, nodes * ranks, ended)
            if nodes > 1 and isinstance(reason, StageFailed):
                wait_if_a_node_is_lost()
            raise reason

    def command(self, run_dir: Path, stage: str, nodes: int, ranks: int, distributed: bool) -> list[str]:
        """srun for a stage. The single task of one that is not distributed has the node's CPUs to itself."""
        settings = self.settings
        tasks = 1 if settings.task == "node" else ranks
        options = {
            "nodes": nodes,
            "relative": 0,  # the first nodes of the allocation: rank 0 is on the first
            "ntasks": nodes * tasks,
            "ntasks-per-node": tasks,
            "distribution": "block",
            "cpus-per-task": settings.cpus_per_task if distributed else None,
            "gpus-per-node": os.environ.get("SLURM_GPUS_ON_NODE"),
            "kill-on-bad-exit": 1,
            "wait": _LAST_TASK_WAITS,
            "export": "ALL",
            "container-image": settings.container,
            "container-mounts": ",".join(settings.container_mounts) or None,
        }
        python = [python_of(settings), "-m", "launchers.slurm.task", str(run_dir.absolute()), stage]
        python += [settings.task, str(settings.grace)]
        return ["srun", *(f"--{key}={value}" for key, value in options.items() if value is not None), *python]

    def environment(self, stage_dir: Path, nodes: int, ranks: int) -> dict[str, str]:
        """What the driver tells every task; the rest each one reads from Slurm's variables."""
        own = {name: value for name, value in self.settings.environment.items() if value != WITHHELD}  # in a job they are there
        inherited = {**os.environ, **job_environment(self.settings), **own}
        address = "127.0.0.1"
        if nodes > 1:
            address = first_address(self.settings.network_interface)
        else:
            inherited.setdefault("GLOO_SOCKET_IFNAME", "lo")
        port = rendezvous_port(os.environ["SLURM_JOB_ID"], restarts(os.environ), stage_dir)
        if os.environ.get("SLURM_NODEID") == "0":  # a batch script on the first node, where rank 0 will listen
            port = free_port_from(port)
        world = {"WORLD_SIZE": nodes * ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": address, "MASTER_PORT": port}
        return inherited | {key: str(value) for key, value in world.items()}

    def _refuse_late_start(self, stage: str) -> None:
        """A signal that came while no task ran was heard by nobody, so a stage never starts after it may have been sent."""
        try:
            job = show_job(this_job(os.environ))
        except StageFailed:  # a controller that is down for a moment is no reason to stop
            return
        ends, needed = job.ends, self.settings.signal_lead + _EARLY
        if ends is not None and job.began is not None and (whole := (ends - job.began).total_seconds()) <= needed:
            raise ConfigError(
                f"launcher.signal_lead: this job has {whole:.0f} s in all, and launcher.signal_lead and Slurm's resolution "
                f"need {needed} s of them, so that no stage could ever start; ask for more time, or lower launcher.signal_lead "
                "(and --signal of a script of your own)."
            )
        if ends is not None and (left := (ends - datetime.now()).total_seconds()) < needed:
            raise Interrupted(
                f"stage {stage}: not started: {left:.0f} s are left of the job's time, and launcher.signal_lead and Slurm's "
                f"resolution need {needed} s."
            )


def restarts(environment: Mapping[str, str]) -> int:
    """How often this job was started again: by Slurm, or as the successor of one that could not be."""
    return int(environment.get("SLURM_RESTART_COUNT", "0")) + int(environment.get(SUCCEEDS, "0"))


def too_small(environment: Mapping[str, str], nodes: int, ranks: int, task: str) -> str | None:
    """Why `nodes` x `ranks` do not fit into the allocation that Slurm's variables describe; None where they do."""
    has_nodes = int(environment["SLURM_JOB_NUM_NODES"])
    has_ranks = int(environment.get("SLURM_NTASKS_PER_NODE", "0"))
    what = f"this allocation has {has_nodes} nodes" + (f" with {has_ranks} tasks on each" if has_ranks else "")
    if nodes > has_nodes:
        return f"launcher.nodes: the run asks for {nodes}, and {what}; set launcher.nodes={has_nodes}, or get a larger one."
    if task == "rank" and has_ranks and ranks > has_ranks:
        return (
            f"launcher.processes_per_node: the run asks for {ranks} ranks on a node, and {what}; set "
            f"launcher.processes_per_node={has_ranks}, or get a larger one."
        )
    return None


def _slurm_is_ending_us() -> bool:
    """Slurm's own TERM (cancel, time limit, requeue, preemption) goes to the tasks as well, and the job runs no more."""
    try:
        return show_job(this_job(os.environ)).state != "RUNNING"
    except StageFailed:
        return False


def _reason(run_dir: Path, stage: str, world_size: int, ended: Ended) -> KeelError:
    """Why a step failed. Ranks that a signal ended before they could write anything were interrupted all the same."""
    in_order = {Interrupted.exit_code, *(-number for number in STOP_SIGNALS)}
    by_signal = ended.signals or (ended.tasks and in_order.issuperset(ended.tasks.values()))
    if by_signal and not any((run_dir / stage / "errors").iterdir()):
        return Interrupted(f"stage {stage}: stopped by a signal before there was anything to save; the same command continues.")
    return reason_of(run_dir, stage, world_size, ended.tasks)
