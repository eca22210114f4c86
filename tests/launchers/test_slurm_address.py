"""Where rank 0 of a run on several nodes listens, asked on the first node and from a login node."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from launchers.slurm import address
from launchers.slurm.address import first_address
from trainer.errors import StageFailed

SHOWN = "2: ib0: <UP> mtu 2044\n    link/infiniband 00:00\n    inet 10.9.8.7/16 brd 10.9.255.255 scope global ib0\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands that were given to Slurm, whose first node is `n1`."""
    commands: list[Sequence[str]] = []

    def slurm(command: Sequence[str]) -> str:
        commands.append(command)
        if command[0] == "scontrol":
            return "n1\nn2"
        if command[-1] != "ib0":
            raise StageFailed("srun refused: exit code 1")
        return SHOWN

    monkeypatch.setattr(address, "slurm", slurm)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    monkeypatch.delenv("SLURM_NODEID", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda node, *_, **__: [(0, 0, 0, "", (of, 0)) for of in ADDRESSES[node]])
    return commands


ADDRESSES = {"n1": ["127.0.1.1", "fe80::1%eth0", "10.0.0.1"]}


def test_from_a_login_node_the_first_node_is_asked(asked: list[Sequence[str]]) -> None:
    assert first_address("ib0") == "10.9.8.7"
    assert {"--relative=0", "--nodes=1", "--overlap"} <= set(asked[-1])


def test_without_an_interface_a_name_is_an_address_that_all_mean(asked: list[Sequence[str]]) -> None:
    assert first_address(None) == first_address("eth7") == "10.0.0.1"


def test_a_name_that_means_this_host_here_stays_a_name(asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADDRESSES, "n1", ["127.0.1.1", "::1"])
    assert first_address(None) == "n1"

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert first_address(None) == "n1"


def test_on_the_first_node_nobody_is_asked(asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NODEID", "0")
    monkeypatch.setattr(address, "address_on", {"ib0": "10.1.1.1"}.get)
    assert first_address("ib0") == "10.1.1.1" and first_address("eth7") == "10.0.0.1"
    assert all(command[0] == "scontrol" for command in asked)
