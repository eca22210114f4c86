"""What one rank can tell about itself and its node, without talking to the others."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from launchers.allocator import allocator
from trainer.errors import ConfigError
from trainer.models.local_copy import expanded, own_directory
from trainer.pipeline.context import StageContext
from trainer.record import versions

_COMPARED = ("python", "torch", "deepspeed", "transformers", "trl", "keel")


@dataclass(frozen=True)
class RankFacts:
    """Attributes:
    host: as the launcher calls the node, where it does.
    device: the GPU's name and memory, or `CPU`. libraries: CUDA and NCCL versions; empty on CPU.
    gpu: which GPU it is, the same for two ranks only if they share one; None on CPU.
    cores, threads: which cores this rank may use; how many threads torch uses in it.
    free: bytes free in the run directory's file system. open_files: how many files a process may have open.
    allocator: how this rank's process keeps memory, in words; empty where it computes on a GPU.
    unwritable: why this rank cannot write in the run directory; None when it can.
    """

    rank: int
    host: str
    versions: dict[str, str]
    device: str
    libraries: str
    gpu: str | None
    cores: frozenset[int]
    threads: int
    free: int
    open_files: int
    allocator: str
    unwritable: str | None


def facts_of_this_rank(context: StageContext) -> RankFacts:
    """Look around. Writes a file of this rank's own in the stage's directory and removes it again."""
    rank, directory = context.rank, context.stage_dir

    device, libraries, gpu = "CPU", "", None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        device = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        nccl = ".".join(str(part) for part in torch.cuda.nccl.version())
        libraries = f"CUDA {torch.version.cuda}, NCCL {nccl}"
        gpu = str(properties.uuid)
    return RankFacts(
        rank=rank,
        host=context.config.launcher.node_name() or platform.node(),
        versions={name: value for name, value in versions().items() if name in _COMPARED},
        device=device,
        libraries=libraries,
        gpu=gpu,
        cores=frozenset(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        free=shutil.disk_usage(directory).free,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        allocator=allocator(os.environ) if gpu is None else "",
        unwritable=_why_unwritable(directory / f"writable-rank{rank}"),
    )


def _why_unwritable(path: Path) -> str | None:
    try:
        path.write_text("")
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None


@dataclass(frozen=True)
class Scratch:
    """Node-local scratch as one node has it. problem: why it cannot be used; None when it can."""

    path: str
    free: int
    problem: str | None


def scratch_facts(scratch: str | None) -> Scratch | None:
    """None where the config names no scratch directory."""
    if scratch is None:
        return None
    try:
        path = own_directory(expanded(scratch)).parent
        return Scratch(str(path), shutil.disk_usage(path).free, None)
    except ConfigError as error:
        return Scratch(scratch, 0, str(error))
