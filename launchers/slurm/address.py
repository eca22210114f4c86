"""Where rank 0 listens: at one address of the first node, and not at all that it has."""

from __future__ import annotations

import os
import re
import socket
from ipaddress import ip_address

from launchers.slurm.commands import slurm
from launchers.slurm.ranks import address_on
from trainer.errors import StageFailed

_INET = re.compile(r"^\s*inet ([0-9.]+)", re.MULTILINE)
_ASK = 'PATH="$PATH:/sbin:/usr/sbin"; ip -4 addr show dev "$0"'


def first_address(interface: str | None) -> str:
    """The address of the allocation's first node: the one on this network interface, or else what this host takes its name to
    mean, so that all ranks mean the same. The name itself where this host knows nothing better."""
    node = slurm(["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]).split()[0]
    if interface is None:
        return _meant_by(node)
    here = os.environ.get("SLURM_NODEID") == "0"  # a batch script on the first node
    return (address_on(interface) if here else _asked_on_node(interface)) or _meant_by(node)


def _asked_on_node(interface: str) -> str | None:
    """The first node's address on an interface, from a login node; None where it has none of that name."""
    try:
        found = _INET.search(
            slurm(["srun", "--nodes=1", "--ntasks=1", "--relative=0", "--overlap", "sh", "-c", _ASK, interface])
        )
    except StageFailed:
        return None
    return found[1] if found else None


def _meant_by(node: str) -> str:
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(node, None, type=socket.SOCK_STREAM)]
    except OSError:
        return node
    usable = [one for one in found if not (ip_address(one.partition("%")[0]).is_loopback or "%" in one)]
    return next((one for one in usable if "." in one), node)
