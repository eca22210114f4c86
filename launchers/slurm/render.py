"""The exact text of the sbatch scripts of a run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from launchers.slurm.size import StageSize
from trainer.config.stage import Stage
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

_PLAIN = re.compile(r"[\w@%+:,./=\[\]-]+", re.ASCII)
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class JobSize:
    """What one job asks for. `tasks`: on each node."""

    nodes: int
    tasks: int
    gpus: int
    time: str


def render_jobs(settings: SlurmLauncher, name: str, run_dir: Path, stages: Sequence[Stage]) -> dict[str, str]:
    """The scripts that submitting this run writes into its directory: file name -> text, in order.

    One job, or with `launcher.per_stage` one per stage.
    """
    if not settings.per_stage:
        command = ["-m", "trainer.job", str(run_dir.absolute())]
        return {"job.sbatch": render(settings, name, whole_size(settings), run_dir / "slurm-%j.log", command)}
    return {
        f"job-{stage.name}.sbatch": render(
            settings,
            f"{name}-{stage.name}",
            stage_size(settings, stage),
            run_dir / "slurm-%j.log",
            ["-m", "trainer.job", str(run_dir.absolute()), "--stage", stage.name],
        )
        for stage in stages
    }


def render_array(settings: SlurmLauncher, tasks: Path, count: int, sweep_dir: Path) -> str:
    """The script of a job array: element N carries out the run on line N (from 0) of the file `tasks`."""
    throttle = f"%{settings.array_throttle}" if settings.array_throttle else ""
    return render(
        settings,
        sweep_dir.parent.name,  # the sweep; its own directory is always called the same
        whole_size(settings),
        sweep_dir / "slurm-%A_%a.log",
        ["-m", "trainer.job", "--tasks", str(tasks.absolute())],
        array=f"0-{count - 1}{throttle}",
    )


def whole_size(settings: SlurmLauncher) -> JobSize:
    """One job for the whole run."""
    tasks = 1 if settings.task == "node" else settings.processes_per_node or settings.gpus_per_node or 1
    return JobSize(settings.nodes, tasks, settings.gpus_per_node, settings.time)


def stage_size(settings: SlurmLauncher, stage: Stage) -> JobSize:
    """One job for a stage. One that is not distributed takes one task, and no GPU unless its size says so."""
    own = settings.stages.get(stage.name, StageSize())
    time = own.time or settings.time
    if not stage.distributed:
        return JobSize(1, 1, own.gpus_per_node or 0, time)
    nodes, ranks = settings.size(stage.name)
    gpus = settings.gpus_per_node if own.gpus_per_node is None else own.gpus_per_node
    return JobSize(nodes, 1 if settings.task == "node" else ranks, gpus, time)


def render(
    settings: SlurmLauncher, name: str, size: JobSize, log: Path, arguments: Sequence[str], array: str | None = None
) -> str:
    """A batch script that runs our Python with `arguments`.

    Args:
        log: where the job writes; sbatch's patterns (%j) in its last part stand.
        array: indices of a job array, as sbatch's `--array` takes them.

    Raises:
        ConfigError: a value that cannot stand in a script.
    """
    folder = str(log.parent.absolute()).replace("%", "%%")
    options: dict[str, str | int | None] = {
        "job-name": name,
        "chdir": str(Path.cwd()),
        "output": f"{folder}/{log.name}",
        "open-mode": "append",
        "array": array,
        "nodes": size.nodes,
        "ntasks-per-node": size.tasks,
        "cpus-per-task": settings.cpus_per_task,
        "gpus-per-node": size.gpus or None,
        "mem": settings.mem,
        "time": size.time,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "reservation": settings.reservation,
        "signal": f"{settings.signal}@{settings.signal_lead}",
    }
    lines = [f"--{key}={_sbatch_word(str(value))}" for key, value in options.items() if value is not None]
    environment = Environment(
        loader=PackageLoader("launchers.slurm", "template"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # shell, not HTML: every value goes through a filter of ours
    )
    environment.filters["shell"] = shlex.quote
    return environment.get_template("job.sbatch.j2").render(
        options=[*lines, "--requeue", *(_extra_option(option) for option in settings.sbatch)],
        modules=settings.modules,
        setup=settings.setup,
        environment=job_environment(settings),
        submitted=[*settings.environment, *settings.pass_environment],
        command=[python_of(settings), *arguments],
    )


def python_of(settings: SlurmLauncher) -> str:
    return settings.python or sys.executable


def job_environment(settings: SlurmLauncher) -> dict[str, str]:
    """What every process of a job should find in its environment, besides the variables of the section's `environment`."""
    found = dict.fromkeys(_OFFLINE, "1") if settings.offline else {}
    if settings.network_interface is not None:
        found |= {"NCCL_SOCKET_IFNAME": settings.network_interface, "GLOO_SOCKET_IFNAME": settings.network_interface}
    return {name: value for name, value in found.items() if name not in settings.environment}


def _extra_option(option: str) -> str:
    key, equals, value = option.partition("=")
    return f"{_sbatch_word(key)}={_sbatch_word(value)}" if equals else _sbatch_word(key)


def _sbatch_word(value: str) -> str:
    """One value on an #SBATCH line. No shell reads it; sbatch knows double quotes, and a backslash before any character."""
    if any(character in value for character in "\n\r\0"):
        raise ConfigError(f"launcher: {value!r} contains a line break, and an #SBATCH line ends there; remove it.")
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
