"""What a hung rank is, and what only looks like one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launchers.local.section import free_port
from trainer.children import children_of
from trainer.pipeline.watchdog import Silence

# Each scenario in a process of its own, with the libraries loaded once for all of them. Exit status 1: the watchdog ended it.
_SCENARIOS = """
import os, sys, time
from pathlib import Path
import torch.distributed as dist
from trainer.pipeline.watchdog import Watchdog, beat, in_step

def asleep(watchdog, rank):
    watchdog.watch(1)
    time.sleep(60)

def works(watchdog, rank):
    watchdog.watch(1)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pass

def spins_in_a_step(watchdog, rank):
    watchdog.watch(1)
    in_step(True)
    while True:
        pass

def beats(watchdog, rank):
    watchdog.watch(1)
    in_step(True)
    for _ in range(30):
        time.sleep(0.1)
        beat()

def its_child_works(watchdog, rank):
    watchdog.watch(1)
    os.system(f"timeout 3 {sys.executable} -c 'while True: pass'")

def waits_for_one_that(watchdog, rank, work):
    dist.init_process_group("gloo", rank=rank, world_size=2)
    dist.barrier()
    watchdog.watch(2)
    if rank == 0:
        work()
    dist.barrier()

def waits_for_one_that_works(watchdog, rank):
    waits_for_one_that(watchdog, rank, lambda: [time.sleep(0.1) or beat() for _ in range(30)])

def waits_for_one_that_sleeps(watchdog, rank):
    waits_for_one_that(watchdog, rank, lambda: time.sleep(60))

children = {}
for name, port in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
    place = Path(sys.argv[1], name)
    place.mkdir()
    for rank in range(2 if "for_one" in name else 1):
        if (child := os.fork()) == 0:
            os.environ["MASTER_PORT"] = port
            with Watchdog(place / f"rank{rank}.json", rank, timeout=1.0) as watchdog:
                globals()[name](watchdog, rank)
            os._exit(0)
        children.setdefault(name, []).append(child)
for name, pids in children.items():
    print(name, *(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
"""
_ENDS = {
    "asleep": "1",
    "works": "0",
    "beats": "0",
    "its_child_works": "0",
    "spins_in_a_step": "1",
    "waits_for_one_that_works": "0 0",
    "waits_for_one_that_sleeps": "1 1",
}


@pytest.mark.slow
def test_a_rank_ends_only_where_nobody_gives_a_sign_of_life(tmp_path: Path) -> None:
    scenarios = [word for name in _ENDS for word in (name, str(free_port()))]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", _SCENARIOS, str(tmp_path), *scenarios]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert dict(line.split(maxsplit=1) for line in done.stdout.splitlines()) == _ENDS
    told = [json.loads((tmp_path / "waits_for_one_that_sleeps" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [words["in_collective"] for words in told] == [False, True]


class _Hidden(psutil.Process):
    def children(self, recursive: bool = False) -> list[psutil.Process]:
        raise psutil.AccessDenied(1)


def test_where_processes_are_hidden_the_watch_goes_on() -> None:
    assert children_of(_Hidden()) == []


def test_time_in_which_nothing_ran_is_no_silence() -> None:
    """`scontrol suspend` stops every process, and the clock goes on."""
    silence = Silence()
    assert [silence.after(now, False, longest=3.0) for now in (0.0, 1.0, 2.0, 4000.0, 4001.0)] == [0.0, 1.0, 2.0, 5.0, 6.0]
    assert silence.after(4002.0, True, longest=3.0) == 0.0
