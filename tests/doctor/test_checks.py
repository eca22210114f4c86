"""Each check finds its fault in gathered facts, names where it is, and says what to do; and is silent without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from trainer.doctor import checks
from trainer.doctor.checks import GIB, AllReduce, Finding
from trainer.doctor.facts import RankFacts, Scratch
from trainer.doctor.table import print_findings

H100 = "NVIDIA H100 80GB HBM3, 79 GiB"


def rank(number: int, host: str = "node1") -> RankFacts:
    return RankFacts(
        rank=number,
        host=host,
        versions={"python": "3.11.7", "torch": "2.13.0", "commit": "abc"},
        device=H100,
        libraries="CUDA 13.0, NCCL 2.28",
        gpu=f"gpu-{number}",
        cores=frozenset(range(8)),
        threads=2,
        free=100 * GIB,
        open_files=65536,
        allocator="",
        unwritable=None,
    )


FOUR = [rank(0), rank(1), rank(2, "node2"), rank(3, "node2")]


def test_equal_ranks_have_no_fault() -> None:
    findings = [
        checks.world(FOUR, 4),
        checks.versions(FOUR),
        checks.devices(FOUR, gpus_wanted=True),
        checks.threads(FOUR),
        checks.allocator(FOUR),
        checks.writable(FOUR, "runs"),
        checks.shared(FOUR, [True] * 4, "runs"),
        checks.space(FOUR, "runs"),
        checks.clocks(FOUR, [100.0, 100.2, 100.1, 100.0]),
        checks.open_files(FOUR),
        checks.all_reduce(AllReduce("nccl", [], 1e-4, 64 << 20, 0.01)),
        checks.all_reduce(None),
        checks.scratch({}),
        checks.caches({"node1": []}, ["a/b"], offline=True),
    ]
    assert [finding for finding in findings if finding.fix is not None] == []
    assert "torch 2.13.0" in checks.versions(FOUR).fact
    assert checks.world(FOUR, 4).fact == "4 ranks on 2 nodes (node1: ranks 0-1; node2: ranks 2-3)"
    assert "64 MiB at 6.71 GB/s" in checks.all_reduce(AllReduce("nccl", [], 1e-4, 64 << 20, 0.01)).fact


def test_differing_versions_name_the_ranks_that_differ() -> None:
    odd = replace(FOUR[2], versions=FOUR[2].versions | {"torch": "2.12.1"})
    finding = checks.versions([FOUR[0], FOUR[1], odd, FOUR[3]])
    assert finding.is_fault
    assert finding.fact == "differ: torch 2.13.0 on ranks 0-1, 3 (node1, node2), 2.12.1 on rank 2 (node2)"


def test_a_package_that_one_rank_lacks_is_a_difference() -> None:
    odd = replace(FOUR[3], versions={"python": "3.11.7", "torch": "2.13.0"})
    assert "commit abc on ranks 0-2 (node1, node2), missing on rank 3 (node2)" in checks.versions([*FOUR[:3], odd]).fact


def test_a_package_that_only_a_later_rank_has_is_a_difference() -> None:
    odd = replace(FOUR[0], versions={"python": "3.11.7", "torch": "2.13.0"})
    assert "missing on rank 0 (node1)" in checks.versions([odd, *FOUR[1:]]).fact


def test_too_few_ranks() -> None:
    assert "the config says 8" in checks.world(FOUR, 8).fact and checks.world(FOUR, 8).is_fault


def test_devices() -> None:
    blind = replace(FOUR[3], device="CPU", libraries="", gpu=None)
    assert "no usable GPU on rank 3 (node2)" in checks.devices([*FOUR[:3], blind], gpus_wanted=True).fact
    assert not checks.devices([blind], gpus_wanted=False).is_fault
    twin = replace(FOUR[1], gpu="gpu-0")
    assert checks.devices([FOUR[0], twin, *FOUR[2:]], gpus_wanted=True).fact == "ranks share one GPU: ranks 0-1 (node1)"
    other = replace(FOUR[2], device="NVIDIA A100, 40 GiB")
    finding = checks.devices([*FOUR[:2], other, FOUR[3]], gpus_wanted=True)
    assert finding.kind == "advice" and "A100" in finding.fact and not finding.is_fault


@pytest.mark.parametrize(
    ("cores", "threads", "crowded"),
    [((range(4), range(4)), 4, True), ((range(4), range(4, 8)), 4, False), ((range(1), range(1)), 1, False)],
    ids=["both use the same four", "each has four of its own", "one thread is the least there is"],
)
def test_threads_are_counted_against_the_cores_that_ranks_share(
    cores: tuple[range, range], threads: int, crowded: bool
) -> None:
    facts = [replace(FOUR[i], cores=frozenset(cores[i]), threads=threads) for i in (0, 1)]
    finding = checks.threads(facts)
    assert (finding.fix is not None) == crowded
    assert not finding.is_fault, "slow, and no reason to stop"
    if crowded:
        assert "8 threads of ranks 0-1 share 4 cores of node1" in finding.fact
        assert "OMP_NUM_THREADS=2" in str(finding.fix)


def test_a_wrong_sum_names_the_ranks() -> None:
    finding = checks.all_reduce(AllReduce("nccl", [2, 3], 1e-4, 4, 1.0))
    assert finding.is_fault and "WRONG SUM on ranks 2-3 over nccl" in finding.fact


def test_directories() -> None:
    refused = replace(FOUR[2], unwritable="Permission denied")
    finding = checks.writable([*FOUR[:2], refused, FOUR[3]], "runs")
    assert finding.is_fault and "Permission denied on rank 2 (node2)" in finding.fact
    finding = checks.shared(FOUR, [True, True, False, False], "runs")
    assert finding.is_fault and finding.fact.startswith("ranks 2-3 (node2) cannot read")
    finding = checks.space([FOUR[0], replace(FOUR[2], free=GIB // 2)], "runs")
    assert finding.is_fault and "0.5 GiB free" in finding.fact and "rank 2 on node2" in finding.fact


def test_scratch() -> None:
    good, bad = Scratch("/local", 50 * GIB, None), Scratch("$X", 0, "launcher.scratch: $X uses $X, which is not set on node2")
    finding = checks.scratch({"node1": good, "node2": bad})
    assert finding.is_fault and finding.fact == "cannot be used on node2" and "not set" in str(finding.fix)
    full = checks.scratch({"node1": good, "node2": replace(good, free=10)})
    assert full.kind == "advice" and "node2" in full.fact


def test_a_missing_cache_is_a_fault_only_without_a_network() -> None:
    missing = {"node1": [], "node2": ["model.path: some/model"]}
    finding = checks.caches(missing, ["some/model"], offline=True)
    assert finding.is_fault and finding.fact.startswith("not on node2: model.path: some/model")
    assert not checks.caches(missing, ["some/model"], offline=False).is_fault


def test_tracking() -> None:
    url = "https://wandb.example"
    assert checks.tracking("online", url, "timed out", key=True).is_fault
    assert "wandb login" in str(checks.tracking("online", url, None, key=False).fix)
    assert not checks.tracking("online", url, None, key=True).is_fault
    assert not checks.tracking("offline", "", None, key=False).is_fault


def test_a_clock_that_is_off_is_named() -> None:
    finding = checks.clocks(FOUR, [100.0, 100.1, 97.5, 100.2])
    assert finding.is_fault and "rank 2 (node2) up to 2.6 s off" in finding.fact


def test_open_files_grow_with_the_ranks() -> None:
    assert checks.open_files([replace(FOUR[0], open_files=256)]).is_fault
    many = [replace(rank(number), open_files=1024) for number in range(512)]
    assert "2048 is safe for 512 ranks" in checks.open_files(many).fact


def test_marks_differ_without_colour() -> None:
    console = Console(width=60, record=True, color_system=None)
    advice = Finding("threads", "many", "use fewer", "advice")
    print_findings([Finding("ranks", "2"), advice, Finding("space", "none " * 20, "delete")], console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0] == "✓ ranks           2"
    assert lines[1] == "! threads         many"
    assert lines[3].startswith("✗ space           none none"), "one line per fact, however long"
    assert lines[4] == "                  -> delete"
    assert lines[-1] == "1 fault"
