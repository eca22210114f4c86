"""Which rank a Slurm task is, whether an allocation is large enough, and what srun says about a task that died."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from launchers.allocator import kept_memory
from launchers.slurm.allocation import too_small
from launchers.slurm.ranks import free_port_from, node_environment, rendezvous_port, task_environment
from launchers.slurm.step import code_of, expand

# Task 5 of 2 nodes with 4 tasks each; the last two variables come from the driver.
TASK = {
    "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_CPUS_ON_NODE": "32", "SLURM_CPUS_PER_TASK": "6",
    "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
}  # fmt: skip


def test_a_task_is_the_rank_that_slurm_says() -> None:
    place = {"RANK": "5", "LOCAL_RANK": "1", "OMP_NUM_THREADS": "6"}
    assert task_environment(TASK) == {**place, **kept_memory(TASK)}


def test_threads_are_the_tasks_cpus_else_its_share_of_the_node_and_the_user_has_the_last_word() -> None:
    shared = {key: value for key, value in TASK.items() if key != "SLURM_CPUS_PER_TASK"}
    assert task_environment(shared)["OMP_NUM_THREADS"] == "8"
    assert "OMP_NUM_THREADS" not in task_environment(TASK | {"OMP_NUM_THREADS": "3"})
    node = {**TASK, "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "24"}
    assert node_environment(node)["OMP_NUM_THREADS"] == "6"


def test_a_world_of_another_size_is_not_joined() -> None:
    with pytest.raises(AssertionError, match="4 tasks where 8 ranks"):
        task_environment(TASK | {"SLURM_NTASKS": "4"})
    with pytest.raises(AssertionError, match="4 ranks on its nodes where 8"):
        node_environment(TASK | {"SLURM_NTASKS": "1"})


def test_jobs_restarts_and_stages_have_ports_of_their_own() -> None:
    stages = [Path("/runs/a/sft"), Path("/runs/a/dpo"), Path("/runs/b/sft")]
    ports = {rendezvous_port(job, start, stage) for job in ("7", "8") for start in (0, 1) for stage in stages}
    assert len(ports) == 12
    assert all(16384 <= port < 32768 for port in ports)


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        port = free_port_from(20000)
        taken.bind(("", port))
        taken.listen()
        assert free_port_from(port) > port


def test_an_allocation_that_is_too_small_is_told_with_both_numbers() -> None:
    has = {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    assert too_small(has, 2, 4, "rank") is None
    assert "asks for 3, and this allocation has 2 nodes" in str(too_small(has, 3, 4, "rank"))
    assert "asks for 8 ranks on a node, and this allocation has 2 nodes with 4 tasks" in str(too_small(has, 2, 8, "rank"))
    assert too_small(has, 2, 8, "node") is None, "one task starts them all"
    assert too_small({"SLURM_JOB_NUM_NODES": "2"}, 2, 8, "rank") is None, "salloc without a number of tasks"


def test_what_srun_says_of_tasks() -> None:
    assert expand("0,2-4") == [0, 2, 3, 4]
    assert [code_of(words) for words in ("Exited with exit code 75", "Killed", "Terminated")] == [75, -9, -15]
    assert code_of("Segmentation fault (core dumped)") == -11
