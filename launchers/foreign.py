"""Other launchers (torchrun, accelerate, deepspeed, mpirun, srun): each process of theirs would be a whole run of its own, in
the same directory. Ours starts the ranks by itself."""

from __future__ import annotations

from collections.abc import Mapping

# Variable with the number of processes -> who sets it; srun: in a step, so neither in a batch script nor in a salloc shell.
_COUNTS = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "SLURM_STEP_NUM_TASKS": "srun",
}


def foreign_launcher(environment: Mapping[str, str]) -> str | None:
    """Who started this process as one of several, by its environment; None where nobody did."""
    if "TORCHELASTIC_RUN_ID" in environment:  # also for one process: its ranks would look for torchrun's store
        return "torchrun"
    if "LOCAL_RANK" in environment and environment.get("WORLD_SIZE", "1") != "1":
        return "deepspeed or accelerate launch"
    return next((name for variable, name in _COUNTS.items() if environment.get(variable, "1") != "1"), None)


def why_refused(environment: Mapping[str, str]) -> str | None:
    """What to do instead of using another launcher; None where there is none."""
    if (name := foreign_launcher(environment)) is None:
        return None
    return (
        f"launcher: this was started by {name}, and each of its processes would be a whole run. Start it once, without {name}: "
        "python -m trainer ... launcher.processes=2 starts two ranks here, and launcher=slurm those of an allocation or a job."
    )
