"""What the types of the section cannot say: which settings contradict each other, or Slurm itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launchers.slurm.times import seconds_of
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from launchers.slurm.section import SlurmLauncher

_OURS = "job-name chdir output open-mode array nodes ntasks-per-node cpus-per-task gpus-per-node mem time partition account"
_OURS += " qos constraint reservation signal requeue dependency wrap parsable"  # sbatch options that have one place already


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
        if not re.match(r"^--[a-z][a-z-]*$", name) or not option.isprintable():
            problems.append(f"launcher.sbatch: {option!r} is not one option; write it as --name or --name=value.")
        elif name.removeprefix("--") in _OURS.split():
            problems.append(f"launcher.sbatch: {name} is set from the launcher's own keys (or by the launcher); remove it.")
    for key in ("mem", "partition", "account", "qos", "constraint", "reservation"):
        if not (getattr(launcher, key) or "x").isprintable():
            problems.append(f"launcher.{key}: {getattr(launcher, key)!r} contains a line break; remove it.")
    for name in launcher.environment:
        if not re.match(r"^[A-Za-z_][A-Za-z0-9_]*$", name):
            problems.append(f"launcher.environment.{name}: not a name for a variable; use letters, digits and _.")
    if launcher.offline and tracking == "online":
        problems.append(
            "tracking.mode: online needs a network on the nodes; set offline, or launcher.offline=false if they have it."
        )
    if launcher.container_mounts and launcher.container is None:
        problems.append("launcher.container_mounts: there is no launcher.container to mount them in; set it or remove them.")
    return problems
