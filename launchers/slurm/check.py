"""What the types of the section cannot say: which settings contradict each other, or Slurm itself."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from launchers.slurm.commands import time_limit
from launchers.slurm.times import seconds_of
from trainer.errors import StageFailed
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

_OURS = "job-name chdir output open-mode array nodes ntasks-per-node cpus-per-task gpus-per-node mem time partition account"
_OURS += " qos constraint reservation signal requeue dependency wrap parsable export export-file"  # have one place already
_LEAST_MISREAD = 3600  # what YAML makes of 1:00:00 without quotes
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A value that is written out, not one that a shell fetches: TOKEN=abc, and not TOKEN=$(cat file).
_SECRET = re.compile(
    r"(?i)(token|secret|passw(or)?d|credential|(api|access|private)_?key)\w*\s*[=:]\s*[\"']?[^\s\"'$`]"
    r"|\b(hf_|sk-|ghp_|glpat-|AKIA)\w{12,}|://[^/\s:@]+:[^/\s@$]+@"
)


def slurm_problems(launcher: SlurmLauncher, tracking: str, stages: Sequence[str]) -> list[str]:
    """Everything wrong with the section.

    Args:
        tracking: the mode of W&B. stages: the names of all stages of the run.
    """
    problems = []
    times = {"launcher.time": launcher.time} | {
        f"launcher.stages.{name}.time": size.time for name, size in launcher.stages.items() if size.time is not None
    }
    for key, time in times.items():
        seconds = seconds_of(time)
        if seconds is None:
            problems.append(f"{key}: {time!r} is not a Slurm time; write HH:MM:SS, D-HH:MM:SS, or minutes.")
        elif time.isdecimal() and int(time) >= _LEAST_MISREAD:
            problems.append(
                f"{key}: {time} minutes? YAML reads 12:00:00 as the number 43200: write it in quotes, or as D-HH:MM:SS."
            )
        elif seconds <= launcher.signal_lead + 60:
            problems.append(
                f"{key}: {seconds} s leave nothing before the signal: it comes launcher.signal_lead={launcher.signal_lead} s "
                "before the end and up to 60 s sooner; ask for more time or lower launcher.signal_lead."
            )
    for name in launcher.stages:
        if name not in stages:
            problems.append(f"launcher.stages.{name}: this run has no such stage; {did_you_mean(name, stages)}")
    if launcher.stages and not launcher.per_stage:
        problems.append("launcher.stages: sizes by stage need one job per stage; set launcher.per_stage=true or remove them.")
    for option in launcher.sbatch:
        name = option.partition("=")[0]
        if not re.fullmatch(r"--[a-z][a-z-]*", name) or not option.isprintable():
            problems.append(f"launcher.sbatch: {option!r} is not one option; write it as --name or --name=value.")
        elif ours := [one for one in _OURS.split() if one.startswith(name.removeprefix("--"))]:  # sbatch takes abbreviations
            short = "" if name == f"--{ours[0]}" else f"short for --{ours[0]}, which is "
            problems.append(
                f"launcher.sbatch: {name} is {short}set from the launcher's own keys (or by the launcher); remove it."
            )
    for key in ("mem", "partition", "account", "qos", "constraint", "reservation"):
        if not (getattr(launcher, key) or "x").isprintable():
            problems.append(f"launcher.{key}: {getattr(launcher, key)!r} contains a line break; remove it.")
    problems += _variable_problems(launcher)
    problems += _partition_problems(launcher, times)
    if launcher.offline and tracking == "online":
        problems.append(
            "tracking.mode: online needs a network on the nodes; set offline, or launcher.offline=false if they have it."
        )
    if launcher.container_mounts and launcher.container is None:
        problems.append("launcher.container_mounts: there is no launcher.container to mount them in; set it or remove them.")
    return problems


def _variable_problems(launcher: SlurmLauncher) -> list[str]:
    """What is wrong with the variables of the tasks, and with secrets that would be written into a script."""
    problems = []
    for key, names in (("environment", list(launcher.environment)), ("pass_environment", launcher.pass_environment)):
        for name in names:
            if not _VARIABLE.fullmatch(name):
                problems.append(f"launcher.{key}.{name}: not a name for a variable; use letters, digits and _.")
            elif name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SALLOC_")):
                problems.append(f"launcher.{key}.{name}: is Slurm's own variable; use the launcher's keys.")
    problems += [
        f"launcher.pass_environment: {name} is not set here, so there is nothing to pass; export it first, or remove it."
        for name in launcher.pass_environment
        if _VARIABLE.fullmatch(name) and name not in os.environ
    ]
    for key in ("setup", "sbatch"):
        for index, line in enumerate(getattr(launcher, key)):
            if _SECRET.search(line):
                problems.append(
                    f"launcher.{key}[{index}]: writes a secret into a script; export it in your shell, and put its name into "
                    "launcher.pass_environment."
                )
    return problems


def _partition_problems(launcher: SlurmLauncher, times: Mapping[str, str]) -> list[str]:
    """What Slurm would refuse of the partition and the times in it; nothing where there is no Slurm to ask."""
    if launcher.scheduler.inside() or shutil.which("scontrol") is None:
        return []
    try:
        limit = time_limit(launcher.partition)
    except StageFailed as error:
        if "not found" not in str(error):
            return []  # a controller that is down for a moment; sbatch will say so
        return [f"launcher.partition: this cluster has no partition {launcher.partition}; sinfo lists them."]
    return [
        f"{key}: {time} is more than the {limit} that the partition allows, and the job would wait for ever; ask for less."
        for key, time in times.items()
        if limit is not None and (seconds_of(time) or 0) > (seconds_of(limit) or math.inf)
    ]
