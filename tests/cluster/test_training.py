"""Training on a real Slurm: submitted, by hand, in salloc, as a chain of jobs, and through a requeue."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launchers.slurm.render import render, whole_size
from launchers.slurm.section import SlurmLauncher
from tests.cluster.slurm_lab import Cluster
from tests.conftest import ROOT, losses
from tests.warm.client import warm_keel

pytestmark = pytest.mark.slow

SAME = 1e-6  # the same ranks do the same sums
SIMILAR = 2e-4  # other ranks: another order of sums, in fp32

COSALIGN = (
    "experiment=cosalign", "evaluation=none", "deepspeed=zero2", "tracking.mode=disabled",
    "data.prompts=60", "trainer.max_steps=6", "trainer.logging_steps=1",
    "sft.learning_rate=5e-4", "sft.warmup_steps=1", "dpo.learning_rate=2e-4", "dpo.warmup_steps=1",
)  # fmt: skip
SFT = (
    "experiment=sft", "evaluation=none", "deepspeed=zero2", "tracking.mode=disabled",
    "data.prompts=150", "trainer.max_steps=40", "trainer.logging_steps=1", "trainer.save_steps=100",
)  # fmt: skip
TWO_NODES = ("launcher=slurm_cpu", "launcher.nodes=2", "launcher.processes_per_node=1", "launcher.time=30:00")
NETWORK = "launcher.network_interface=lo"  # every node of the lab is this machine


def submit(cluster: Cluster, cwd: Path, *overrides: str, code: int = 0) -> tuple[list[str], str]:
    """`python -m trainer ... launcher=...`. Returns the job ids and what it printed."""
    output = cluster.run(sys.executable, "-m", "trainer", *overrides, NETWORK, cwd=cwd, code=code)
    found = re.search(r"submitted: job ([\d, ]+)", output)
    return (found.group(1).split(", ") if found else []), output


def log_of(run_dir: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(run_dir.glob("slurm-*.log")))


def ended_well(cluster: Cluster, job: str, run_dir: Path) -> dict[str, str]:
    fields = cluster.wait(job, seconds=400)
    assert fields["JobState"] == "COMPLETED", f"{fields}\n{log_of(run_dir)[-4000:]}"
    return fields


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {seconds:.0f} s"
        time.sleep(0.05)


def steps_done(run_dir: Path) -> int:
    path = run_dir / "sft" / "metrics.jsonl"
    return path.read_text().count("train/loss") if path.exists() else 0


def no_process_left(cluster: Cluster) -> None:
    until(lambda: not cluster.job_processes(), 20, "every process of the job to end")


@pytest.fixture(scope="module")
def cosalign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes on this machine, without Slurm."""
    cwd = tmp_path_factory.mktemp("local")
    warm_keel(*COSALIGN, "launcher.processes=2", cwd=cwd, OMP_NUM_THREADS="1")
    return cwd / "runs" / "cosalign"


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("local")
    warm_keel(*SFT, "launcher.processes=2", cwd=cwd, OMP_NUM_THREADS="1")
    return cwd / "runs" / "sft"


def test_submitted_from_python_trains_on_two_nodes_as_on_one(cluster: Cluster, cosalign: Path, tmp_path: Path) -> None:
    (job,), output = submit(cluster, tmp_path, *COSALIGN, *TWO_NODES)
    run_dir = tmp_path / "runs" / "cosalign"
    assert f"tail -F {run_dir}/slurm-{job}.log" in output
    fields = ended_well(cluster, job, run_dir)
    assert fields["NumNodes"] == "2"
    for stage in ("sft", "dpo"):
        assert len(losses(run_dir / stage)) == 6
        assert losses(run_dir / stage) == pytest.approx(losses(cosalign / stage), abs=SAME), stage
    no_process_left(cluster)


def test_by_hand_with_sbatch_trains_the_same(cluster: Cluster, sft: Path, tmp_path: Path) -> None:
    python = f"PATH={Path(sys.executable).parent}:{cluster.environment['PATH']}"
    sbatch = ("sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=30")
    job = cluster.run("env", python, *sbatch, str(ROOT / "slurm" / "train.sbatch"), *SFT, NETWORK, cwd=tmp_path).strip()
    fields = cluster.wait(job, seconds=400)
    assert fields["JobState"] == "COMPLETED", log_of(tmp_path)[-4000:]
    assert losses(tmp_path / "runs" / "sft" / "sft") == pytest.approx(losses(sft / "sft"), abs=SAME)


def test_inside_salloc(cluster: Cluster, sft: Path, tmp_path: Path) -> None:
    python = f"PATH={Path(sys.executable).parent}:{cluster.environment['PATH']}"
    salloc = ("salloc", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=30")
    script = str(ROOT / "slurm" / "train.sbatch")
    cluster.run("env", python, *salloc, "bash", script, *SFT, NETWORK, cwd=tmp_path, seconds=400)
    assert losses(tmp_path / "runs" / "sft" / "sft") == pytest.approx(losses(sft / "sft"), abs=SAME)
    # the same allocation, and a config that wants more than it has
    output = cluster.run(
        *salloc, sys.executable, "-m", "trainer", *SFT, "run.name=large", "launcher=slurm_cpu", "launcher.nodes=3",
        "launcher.processes_per_node=1", "trainer.train_batch_size=48", cwd=tmp_path, code=2,
    )  # fmt: skip
    assert "the run asks for 3, and this allocation has 2 nodes" in output


def test_one_task_per_node_starts_the_ranks_of_its_node(cluster: Cluster, sft: Path, tmp_path: Path) -> None:
    """With the model and the data copied to a directory of the node first."""
    four = (
        f"launcher.scratch={tmp_path / 'scratch'}",
        "launcher.task=node",
        "launcher.processes_per_node=2",
        "launcher.cpus_per_task=2",
    )
    (job,), _ = submit(cluster, tmp_path, *SFT, *TWO_NODES, *four, "trainer.per_device_train_batch_size=8")
    run_dir = tmp_path / "runs" / "sft"
    assert ended_well(cluster, job, run_dir)["NumTasks"] == "2"
    assert {path.name for path in (run_dir / "sft" / "logs").iterdir()} == {"rank1.log", "rank2.log", "rank3.log"}
    assert losses(run_dir / "sft") == pytest.approx(losses(sft / "sft"), abs=SIMILAR)
    assert list((tmp_path / "scratch").rglob("*.safetensors")) and list((tmp_path / "scratch").rglob("*.arrow"))


def test_stages_as_jobs_of_their_own_size(cluster: Cluster, cosalign: Path, tmp_path: Path) -> None:
    sizes = ("launcher.per_stage=true", "launcher.stages.dpo.nodes=1")
    jobs, _ = submit(cluster, tmp_path, *COSALIGN, *TWO_NODES, *sizes)
    assert len(jobs) == 3
    _, output = submit(cluster, tmp_path, *COSALIGN, *TWO_NODES, *sizes, code=2)
    of_a_job = f"job ({'|'.join(jobs)})"  # the first works there as soon as it is started
    said = " ".join(output.split())
    assert re.search(rf"{of_a_job} of this run is (pending|running)|is in use: [^;]*{of_a_job}", said), output
    run_dir = tmp_path / "runs" / "cosalign"
    fields = [ended_well(cluster, job, run_dir) for job in jobs]
    assert [f["NumNodes"] for f in fields] == ["1", "2", "1"]
    assert losses(run_dir / "sft") == pytest.approx(losses(cosalign / "sft"), abs=SAME)
    assert losses(run_dir / "dpo") == pytest.approx(losses(cosalign / "dpo"), abs=SIMILAR)


def test_the_jobs_after_one_that_is_cancelled_are_dropped(cluster: Cluster, tmp_path: Path) -> None:
    jobs, _ = submit(cluster, tmp_path, *COSALIGN, *TWO_NODES, "launcher.per_stage=true")
    cluster.run("scancel", jobs[0])
    assert {cluster.wait(job, seconds=60)["JobState"] for job in jobs} == {"CANCELLED"}
    no_process_left(cluster)


def test_before_the_time_limit_slurm_signals_and_the_job_goes_on_as_often_as_it_may(cluster: Cluster, tmp_path: Path) -> None:
    """The limit is shortened under a running job, so that its own signal comes within half a minute."""
    long = ("trainer.max_steps=5000", "launcher.signal_lead=60", "launcher.max_requeues=1")
    (job,), _ = submit(cluster, tmp_path, *SFT, *TWO_NODES, *long)
    run_dir = tmp_path / "runs" / "sft"
    until(lambda: steps_done(run_dir) >= 3, 300, "the third step")
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=2")
    until(lambda: cluster.job(job)["Restarts"] == "1", 180, "the requeue")
    assert f"job {job} goes back into the queue (restart 1 of at most 1)" in log_of(run_dir)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    until(lambda: "sft: resuming from step" in log_of(run_dir), 300, "the second start")
    before = steps_done(run_dir)
    until(lambda: steps_done(run_dir) > before, 180, "a step of the second start")

    cluster.run("scancel", "--signal=USR2", job)  # to every task, as before the time limit
    fields = cluster.wait(job, seconds=60)
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("FAILED", "75:0", "1")
    assert "was put back into the queue 1 times (launcher.max_requeues)" in log_of(run_dir)
    no_process_left(cluster)


def test_a_killed_rank_is_named_and_the_job_goes_back_as_often_as_the_bound_says(cluster: Cluster, tmp_path: Path) -> None:
    (job,), _ = submit(cluster, tmp_path, *SFT, *TWO_NODES, "trainer.max_steps=5000", "launcher.max_requeues=1")
    run_dir = tmp_path / "runs" / "sft"

    def kill_rank_1() -> None:
        before = steps_done(run_dir)
        until(lambda: steps_done(run_dir) >= before + 2, 300, "two steps")
        (rank,) = [p for p in cluster.job_processes() if "trainer.worker" in p.cmdline() and p.environ()["SLURM_PROCID"] == "1"]
        rank.kill()

    kill_rank_1()
    until(lambda: cluster.job(job)["Restarts"] == "1", 120, "the requeue")
    kill_rank_1()
    fields = cluster.wait(job, seconds=120)
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("FAILED", "1:0", "1")
    log = log_of(run_dir)
    assert log.count("stage sft: rank 1 of 2 was killed by SIGKILL") == 2
    assert "was put back into the queue 1 times (launcher.max_requeues)" in log
    no_process_left(cluster)


def test_sbatch_reads_an_option_as_it_was_given(cluster: Cluster, tmp_path: Path) -> None:
    hostile = """it's "here"; $(touch owned) \\ # 100%"""
    settings = SlurmLauncher(name="slurm", gpus_per_node=0, time="5", sbatch=[f"--comment={hostile}"])
    script = tmp_path / "job.sbatch"
    script.write_text(render(settings, "a b", whole_size(settings), tmp_path / "a log %j", ["-c", "pass"]))
    job = cluster.run("sbatch", "--parsable", "--hold", str(script)).strip()
    shown = cluster.run("scontrol", "show", "job", job, "-o")
    cluster.run("scancel", job)
    assert f" Comment={hostile} " in shown
    assert "JobName=a b " in shown
    assert f"StdOut={tmp_path}/a log {job} " in shown


def test_a_refusal_is_told_in_slurms_own_words(cluster: Cluster, tmp_path: Path) -> None:
    _, output = submit(cluster, tmp_path, *SFT, *TWO_NODES, "launcher.partition=nowhere", code=1)
    assert "sbatch refused: sbatch: error: invalid partition specified: nowhere" in output
