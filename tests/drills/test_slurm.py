"""What a cluster does to jobs: a node dies, a user cancels. On a real Slurm of two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.conftest import cluster  # noqa: F401  # the same fixture
from tests.cluster.slurm_lab import Cluster
from tests.cluster.test_training import TWO_NODES, ended_well, log_of, no_process_left, submit, until
from tests.conftest import losses
from tests.drills.harness import ARGUMENTS, SAVE_EVERY, TABLE, Row, newest_step, stray_wandb_ids, undisturbed

pytestmark = pytest.mark.slow

ON_CLUSTER = (*(a for a in ARGUMENTS if not a.startswith("launcher.")), *TWO_NODES, "evaluation=none", "trainer.max_steps=60")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    cwd = tmp_path_factory.mktemp("undisturbed")
    run_dir = undisturbed(cwd, "deepspeed=zero2", "evaluation=none", "trainer.max_steps=60", OMP_NUM_THREADS="1")
    return losses(run_dir / "sft")


def _saved(run_dir: Path) -> int:
    return newest_step(run_dir / "sft") if (run_dir / "sft" / "checkpoints" / "latest").exists() else 0


def test_a_node_that_dies_costs_only_the_steps_since_the_last_checkpoint(
    cluster: Cluster,  # noqa: F811  # only so that Slurm is there
    expected: list[float],
    tmp_path: Path,
) -> None:
    with Cluster(nodes=3) as larger:  # 127.0.0.3 stands by
        (job,), _ = submit(larger, tmp_path, *ON_CLUSTER, "deepspeed=zero2")
        run_dir = tmp_path / "runs" / "run"
        until(lambda: _saved(run_dir) >= SAVE_EVERY, 300, "the first checkpoint")
        larger.crash_node("127.0.0.2")
        until(lambda: larger.job(job)["Restarts"] == "1", 120, "the requeue after the node's death")
        kept = _saved(run_dir)
        fields = ended_well(larger, job, run_dir)
        assert fields["NodeList"] == "127.0.0.[1,3]"
        no_process_left(larger)
    assert f"sft: resuming from step {kept} " in log_of(run_dir)
    assert losses(run_dir / "sft") == pytest.approx(expected, abs=1e-6)
    assert not stray_wandb_ids(run_dir)
    TABLE.append(Row("a node's slurmd and tasks killed", "zero2", f"requeued by Slurm; step {kept} kept, losses equal"))


def test_a_cancelled_job_saves_and_goes_on_only_when_submitted_again(
    cluster: Cluster,  # noqa: F811
    expected: list[float],
    tmp_path: Path,
) -> None:
    (job,), _ = submit(cluster, tmp_path, *ON_CLUSTER, "deepspeed=zero2")
    run_dir = tmp_path / "runs" / "run"
    until(lambda: _saved(run_dir) >= SAVE_EVERY, 300, "the first checkpoint")
    cluster.run("scancel", job)
    fields = cluster.wait(job, seconds=60)
    assert (fields["JobState"], fields["Restarts"]) == ("CANCELLED", "0")
    no_process_left(cluster)
    assert f"job {job} is C" in log_of(run_dir)  # CANCELLED or COMPLETING: it is not requeued from here
    assert cluster.job_state(job) == "CANCELLED"
    kept = _saved(run_dir)
    (again,), _ = submit(cluster, tmp_path, *ON_CLUSTER, "deepspeed=zero2")
    ended_well(cluster, again, run_dir)
    assert f"sft: resuming from step {kept} " in log_of(run_dir)
    assert losses(run_dir / "sft") == pytest.approx(expected, abs=1e-6)
    assert not stray_wandb_ids(run_dir)
    TABLE.append(Row("scancel", "zero2", f"not requeued; step {kept} kept, losses equal"))


def test_a_preempted_job_makes_room_and_comes_back(
    cluster: Cluster,  # noqa: F811
    expected: list[float],
    tmp_path: Path,
) -> None:
    (job,), _ = submit(cluster, tmp_path, *ON_CLUSTER, "deepspeed=zero2", "launcher.partition=low")
    run_dir = tmp_path / "runs" / "run"
    until(lambda: _saved(run_dir) >= SAVE_EVERY, 300, "the first checkpoint")
    urgent = cluster.run(
        "sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"
    ).strip()
    assert cluster.wait(urgent, seconds=120)["JobState"] == "COMPLETED"
    until(lambda: cluster.job(job)["Restarts"] == "1", 60, "the requeue after the preemption")
    kept = _saved(run_dir)
    ended_well(cluster, job, run_dir)
    assert f"sft: resuming from step {kept} " in log_of(run_dir)
    assert losses(run_dir / "sft") == pytest.approx(expected, abs=1e-6)
    TABLE.append(Row("preempted by a higher partition", "zero2", f"requeued by Slurm; step {kept} kept, losses equal"))
