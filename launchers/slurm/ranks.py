"""Which rank a Slurm task is, and where it finds the others. Read from Slurm's variables here, never in a shell."""

from __future__ import annotations

import fcntl
import hashlib
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from launchers.allocator import kept_memory

_SIOCGIFADDR = 0x8915
_FIRST_PORT, _PORTS = 16384, 16384  # below those that Linux gives to outgoing connections


def rendezvous_port(job_id: str, restarts: int, stage_dir: Path) -> int:
    """A port that two jobs on a host (of two clusters, even), two starts of a job, or its stages are unlikely to share."""
    digest = hashlib.sha256(f"{job_id}.{restarts}.{stage_dir.absolute()}".encode()).digest()
    return _FIRST_PORT + int.from_bytes(digest[:4], "big") % _PORTS


def free_port_from(port: int) -> int:
    """`port`, or the next one that nobody on this host listens on."""
    for candidate in range(port, _FIRST_PORT + _PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's store will
            try:
                probe.bind(("", candidate))
            except OSError:
                continue
            return candidate
    return free_port_from(_FIRST_PORT)


def address_on(interface: str) -> str | None:
    """This node's IPv4 address on a network interface; None where it has none of that name."""
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            return socket.inet_ntoa(fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)[20:24])
        except OSError:
            return None


def task_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a task that is one rank adds to its environment (torch's env:// rendezvous, and on a CPU how memory is kept).

    Args:
        environment: Slurm's variables, and WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT from the driver.
    """
    assert environment["SLURM_NTASKS"] == environment["WORLD_SIZE"], (
        f"Slurm started {environment['SLURM_NTASKS']} tasks where {environment['WORLD_SIZE']} ranks were asked for"
    )
    ranks = {"RANK": environment["SLURM_PROCID"], "LOCAL_RANK": environment["SLURM_LOCALID"]}
    return ranks | _threads(environment, 1) | kept_memory(environment)


def node_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for a task that starts all ranks of its node; they get their ranks from it."""
    local = int(environment["LOCAL_WORLD_SIZE"])
    asked, given = int(environment["WORLD_SIZE"]), int(environment["SLURM_NTASKS"]) * local
    assert asked == given, f"Slurm started {given} ranks on its nodes where {asked} were asked for"
    return _threads(environment, local)


def _threads(environment: Mapping[str, str], ranks_in_task: int) -> dict[str, str]:
    """The task's CPUs shared among its ranks; where no number a task was asked for, the node's among all of its ranks."""
    if "OMP_NUM_THREADS" in environment:  # the user has the last word
        return {}
    if "SLURM_CPUS_PER_TASK" in environment:
        threads = int(environment["SLURM_CPUS_PER_TASK"]) // ranks_in_task
    else:
        threads = int(environment["SLURM_CPUS_ON_NODE"]) // int(environment["LOCAL_WORLD_SIZE"])
    return {"OMP_NUM_THREADS": str(max(1, threads))}
