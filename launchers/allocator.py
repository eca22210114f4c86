"""How the C library keeps memory on a CPU. More than half of a training step there can be page faults on memory that was given
back to the system and is asked of it again; variables of the environment, read when a process starts, change that."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch's own: tensors in huge pages
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(16 << 30)}  # glibc's: freed memory stays, up to 16 GiB of it
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, of either in WSL
_HIDDEN = ("", "-1", "NoDevFiles")


def kept_memory(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process that computes on a CPU needs besides this environment to keep the memory that it frees, and to have it in
    huge pages. Nothing where torch will find a GPU, and of glibc's nothing where the user has set any of glibc's."""
    if _finds_gpu(environment):
        return {}
    own = [name for name in environment if name.startswith("MALLOC_")]
    tuned = own or "glibc.malloc." in environment.get("GLIBC_TUNABLES", "")
    wanted = {HUGE_PAGES: "1", **({} if tuned else KEEP)}
    return {name: value for name, value in wanted.items() if name not in environment}


def allocator(environment: Mapping[str, str]) -> str:
    """What is set, in words."""
    set_here = [f"{name}={environment[name]}" for name in (HUGE_PAGES, "GLIBC_TUNABLES") if name in environment]
    set_here += [f"{name}={value}" for name, value in sorted(environment.items()) if name.startswith("MALLOC_")]
    return " ".join(set_here) or "as the system has it"


def _finds_gpu(environment: Mapping[str, str]) -> bool:
    """Asked of the package and of the driver's files: loading torch takes seconds."""
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in _HIDDEN
    return "+cpu" not in version("torch") and not hidden and any(Path(path).exists() for path in _GPUS)
