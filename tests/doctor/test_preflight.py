"""What runs before every distributed stage, on real ranks: faults stop all of them together, each with the same words."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config.load import load_config
from trainer.config.run import write_config

# A rank of a stage `sft`: the real preflight, then its outcome. The second and third argument say what to break.
_RANK = """
import json, os, sys, time
from pathlib import Path
import trainer.doctor.facts as facts, trainer.doctor.preflight as preflight, trainer.doctor.rendezvous as rendezvous
from trainer.config.load import read_config
from trainer.errors import KeelError
from trainer.config.stage import Stage
from trainer.pipeline.context import StageContext
place, fault, rank = Path(sys.argv[1]), sys.argv[2], int(os.environ["RANK"])
if fault == "versions" and rank == 1:
    true = facts.versions
    facts.versions = lambda: true() | {"torch": "1.0.0"}
if fault == "not shared" and rank == 1:
    place = place / "another-disk"
    place.mkdir()
if fault == "no gpu" and rank == 1:
    rendezvous.torch.cuda.is_available = lambda: True
if fault == "missing":
    preflight.meet = lambda context: rendezvous.meet(context, patience=3.0)
config = read_config(Path(sys.argv[1]) / "config.yaml")
os.chdir(place)
try:
    with StageContext.of_this_process(config, Path("run"), Stage("sft", "")) as context:
        preflight.preflight(context)
        if fault == "listening" and rank == 0:
            port = f"{int(os.environ['MASTER_PORT']):04X}"
            lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
            print("AT", [address for _, address, _, state, *_ in lines if state == "0A" and address.endswith(port)], flush=True)
    print("PASSED", flush=True)
except KeelError as error:
    print(type(error).__name__, json.dumps(str(error)), flush=True)
    time.sleep(1)  # the others read what this rank's store holds
    os._exit(error.exit_code)
"""


def ranks(tmp_path: Path, fault: str, present: int = 2, size: int = 2) -> list[tuple[int, str]]:
    """(exit code, output) of each rank that was started."""
    launcher = {"name": "local", "processes": size, "gpu": "H100-80GB" if fault == "gpus asked" else None}
    values = {"run": {"name": "x"}, "method": {"name": "sft"}, "model": {"path": "sandbox"}, "data": {"format": "sandbox"}}
    write_config(
        load_config({**values, "launcher": launcher, "judge": {"name": "exact"}}),
        tmp_path / "config.yaml",
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(tmp_path), fault],
            env={
                **os.environ,
                **world,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "GLOO_SOCKET_IFNAME": "lo",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(present)
    ]
    return [(process.returncode, output) for process in started for output, _ in [process.communicate(timeout=120)]]


@pytest.mark.slow
def test_all_well_is_one_line_on_rank_0_and_leaves_nothing(tmp_path: Path) -> None:
    (code, first), (other_code, second) = ranks(tmp_path, "none")
    assert (code, other_code) == (0, 0)
    line, passed = first.splitlines()
    assert line.startswith("sft · 2 ranks on 1 node · torch 2.")
    assert " · gloo · all-reduce " in line and line.endswith(" GiB free")
    assert (passed, second) == ("PASSED", "PASSED\n")
    assert list((tmp_path / "run" / "sft").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [("versions", "1.0.0 on rank 1"), ("not shared", "rank 1 ("), ("no gpu", "rank0 ("), ("gpus asked", "no usable GPU on")],
)
def test_a_fault_on_one_rank_stops_all_with_the_same_words(tmp_path: Path, fault: str, words: str) -> None:
    outcomes = ranks(tmp_path, fault)
    assert [code for code, _ in outcomes] == [2, 2]
    first, second = (output for _, output in outcomes)
    assert first == second and first.startswith("ConfigError") and words in first


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named(tmp_path: Path) -> None:
    (code, first), _ = ranks(tmp_path, "missing", present=2, size=3)
    assert code == 1
    message = json.loads(first.removeprefix("StageFailed "))
    assert "1 of 3 ranks did not come to 127.0.0.1:" in message and "rank 2;" in message


@pytest.mark.slow
def test_the_store_of_a_local_run_listens_on_loopback_alone(tmp_path: Path) -> None:
    (code, first), (other_code, _) = ranks(tmp_path, "listening")
    assert (code, other_code) == (0, 0)
    (listening,) = [line for line in first.splitlines() if line.startswith("AT")]
    assert listening.startswith("AT ['0100007F:") and listening.count(":") == 1  # 127.0.0.1, as the kernel writes it


@pytest.mark.slow
def test_one_rank_needs_nobody(tmp_path: Path) -> None:
    [(code, output)] = ranks(tmp_path, "none", present=1, size=1)
    assert code == 0
    assert output.startswith("sft · 1 rank on 1 node · ") and "all-reduce" not in output
