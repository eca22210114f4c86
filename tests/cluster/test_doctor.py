"""The doctor on a real Slurm of two nodes: it submits a job, waits for it, and tells both nodes apart."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.slurm_lab import Cluster

ARGUMENTS = ("launcher=slurm_cpu", "launcher.nodes=2", "launcher.processes_per_node=1")


@pytest.mark.slow
def test_the_doctor_submits_a_job_and_reports_both_nodes(cluster: Cluster, tmp_path: Path) -> None:
    scratch = f"launcher.scratch={tmp_path}/$SLURMD_NODENAME"
    output = cluster.run(sys.executable, "-m", "trainer.doctor", *ARGUMENTS, scratch, cwd=tmp_path, seconds=300)
    for fact in (
        "2 ranks on 2 nodes (127.0.0.1: rank 0; 127.0.0.2: rank 1)",
        "sum right over gloo",
        "every rank reads what rank 0 wrote",
        "the least of 2",
        "all well",
    ):
        assert fact in output, output
    assert list((tmp_path / "runs" / "doctor").iterdir()) == []
    assert cluster.run("squeue", "--noheader") == ""


@pytest.mark.slow
def test_a_fault_that_a_node_finds_reaches_the_terminal(cluster: Cluster, tmp_path: Path) -> None:
    output = cluster.run(
        sys.executable, "-m", "trainer.doctor", *ARGUMENTS, "launcher.scratch=$NO_SUCH_DISK", cwd=tmp_path, seconds=300, code=1
    )
    assert "✗ scratch         cannot be used on 127.0.0.1, 127.0.0.2" in output
    assert "$NO_SUCH_DISK, which is not set" in output


@pytest.mark.slow
def test_stopping_the_doctor_cancels_its_job(cluster: Cluster, tmp_path: Path) -> None:
    blocking = cluster.run("sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 600").strip()
    try:
        cluster.wait(blocking, state="RUNNING")
        doctor = subprocess.Popen(
            [sys.executable, "-m", "trainer.doctor", *ARGUMENTS],
            cwd=tmp_path,
            env=cluster.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert doctor.stdout is not None
        line = doctor.stdout.readline()
        assert line.endswith(": pending\n"), line
        job = line.split()[1].rstrip(":")
        doctor.send_signal(signal.SIGINT)
        assert doctor.wait(timeout=60) == 130
        assert cluster.wait(job)["JobState"] == "CANCELLED"
    finally:
        cluster.run("scancel", blocking)
