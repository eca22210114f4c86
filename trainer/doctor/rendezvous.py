"""Find the other ranks within a bound, and say who is missing when they do not all come."""

from __future__ import annotations

import os
import platform
import socket
import time
from datetime import timedelta
from ipaddress import ip_address

import torch
import torch.distributed as dist

from trainer.errors import ConfigError, StageFailed
from trainer.pipeline.context import StageContext

PATIENCE = 60.0  # seconds
_WITH_GPU = "keel/with-gpu"  # in the store: how many ranks have one


def meet(context: StageContext, patience: float = PATIENCE) -> float:
    """Join the other ranks. Returns how long that took, in seconds.

    Before the process group is made, which waits for long and then names nobody, every rank signs a list that rank 0
    keeps. The list lives in the same server that the process group then uses, so no second port is needed.

    Raises:
        ConfigError: some ranks have a GPU and some have none.
        StageFailed: not all ranks came; the text says where they should have met and who is missing.
    """
    started = time.monotonic()
    if context.world_size == 1 or dist.is_initialized():
        return 0.0
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    place = f"{address}:{port}"
    try:
        store = dist.TCPStore(
            address,
            port,
            context.world_size,
            is_master=context.is_main,
            timeout=timedelta(seconds=patience),
            wait_for_workers=False,
            multi_tenant=True,  # init_process_group in this process serves the same port
            master_listen_fd=_listening(address, port) if context.is_main else None,
        )
    except (dist.DistNetworkError, dist.DistStoreError, OSError) as error:
        here = f"rank {context.rank} on {platform.node()}"
        if context.is_main:
            raise StageFailed(f"rendezvous: {here} cannot listen at {place}: {error}; is the port taken?") from error
        raise StageFailed(
            f"rendezvous: {here} did not reach rank 0 at {place} within {patience:.0f} s; is rank 0 alive, and is that address "
            "on a network that the nodes share (launcher.network_interface)?"
        ) from error
    names = [f"rank{rank}" for rank in range(context.world_size)]
    with_gpu = int(torch.cuda.is_available())
    store.add(_WITH_GPU, with_gpu)
    store.set(names[context.rank], f"{with_gpu} {platform.node()}")
    try:
        store.wait(names, timedelta(seconds=patience))
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise StageFailed(_who_is_missing(store, names, place, patience)) from error
    if 0 < store.add(_WITH_GPU, 0) < context.world_size:  # they would wait for each other in two different backends
        hosts = {name: store.get(name).decode().split() for name in names}
        without = [f"{name} ({host})" for name, (gpu, host) in hosts.items() if gpu == "0"]
        raise ConfigError(
            f"launcher: {', '.join(without)} cannot use a GPU, and the others can; look at nvidia-smi there, or "
            "keep that node out (launcher.sbatch=[--exclude=NODE])."
        )
    context.connect()
    return time.monotonic() - started


def _listening(address: str, port: int) -> int | None:
    """A socket that listens at this address alone: torch's store would at all of the node's, and asks nobody who they are. None
    for the name of a node, which may mean another address on the node itself than elsewhere."""
    try:
        family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    except ValueError:
        return None
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
    except OSError:
        listening.close()
        raise
    return listening.detach()  # the store's from here on


def _who_is_missing(store: object, names: list[str], place: str, patience: float) -> str:
    assert isinstance(store, dist.Store)
    try:
        present = {name: store.get(name).decode().split()[-1] for name in names if store.check([name])}
    except (dist.DistNetworkError, dist.DistStoreError):
        return f"rendezvous: rank 0 at {place} is gone before all ranks had met; its own log says why."
    missing = [name.removeprefix("rank") for name in names if name not in present]
    hosts = ", ".join(sorted(set(present.values())))
    return (
        f"rendezvous: {len(missing)} of {len(names)} ranks did not come to {place} within {patience:.0f} s: rank "
        f"{', '.join(missing)}; those present are on {hosts}. Look at the missing ranks' logs, and whether their nodes reach "
        "that address (launcher.network_interface)."
    )
