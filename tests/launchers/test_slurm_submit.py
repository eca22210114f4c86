"""What submitting does before Slurm is asked, and where there is no Slurm."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from launchers.slurm.allocation import AllocationLauncher
from launchers.slurm.commands import outside_environment, this_job
from launchers.slurm.scheduler import SlurmScheduler
from launchers.slurm.section import SlurmLauncher
from launchers.slurm.submit import submit_array, submit_run
from tests.launchers.slurm_config import slurm_config, slurm_section
from trainer.config.bases import Submission
from trainer.config.load import read_own_config
from trainer.errors import ArtifactError, ConfigError, StageFailed
from trainer.pipeline.chain import chain
from trainer.pipeline.run import carry_out, claim_directory
from trainer.plan.differences import differences


def test_without_slurm_the_error_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageFailed, match="sbatch is not on PATH: there is no Slurm here"):
        submit_run(slurm_section(), "first", tmp_path, chain(slurm_config()))
    assert (tmp_path / "job.sbatch").exists(), "to look at, or to submit by hand"
    assert not (tmp_path / "jobs.jsonl").exists()


SECRET = "hunter2-correct-horse"


def test_values_of_variables_go_with_the_submission_and_into_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$PLAIN $HF_TOKEN" >&2\nprintf "%s" "$PLAIN $HF_TOKEN" > "$TOLD"\necho 7\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    run_dir = tmp_path / "runs" / "first"
    config = slurm_config(environment={"PLAIN": f"mysql://keel:{SECRET}@db"}, pass_environment=["HF_TOKEN"])
    config = replace(config, paths=replace(config.paths, runs=str(run_dir.parent)))
    claim_directory(config)
    assert config.launcher.scheduler is not None
    submission = config.launcher.scheduler.submit(config, run_dir, chain(config))
    assert submission.job_ids == ["7"]
    assert (tmp_path / "told").read_text() == f"mysql://keel:{SECRET}@db {SECRET}"
    written = [path for path in run_dir.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"config.yaml", "job.sbatch"}
    for path in written:
        assert SECRET not in path.read_text(), path
    for name in ("config.yaml", "job.sbatch"):
        assert stat.S_IMODE((run_dir / name).stat().st_mode) == 0o600
    assert not any(SECRET in cell for row in differences(config) for cell in row)
    launcher = read_own_config(run_dir / "config.yaml").launcher  # what a job reads
    assert isinstance(launcher, SlurmLauncher)
    monkeypatch.setenv("PLAIN", "of the job")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert AllocationLauncher(launcher).environment(run_dir / "sft", 1, 1)["PLAIN"] == "of the job"


def test_another_jobs_variables_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SBATCH_PARTITION", "SRUN_DEBUG"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    kept = {name for name in outside_environment() if name.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
    assert kept == {"SLURM_CONF"}


def test_an_element_of_an_array_is_not_the_whole_array() -> None:
    assert this_job({"SLURM_JOB_ID": "8"}) == "8"
    assert this_job({"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}) == "8_3"


def test_a_sweep_is_not_made_of_stage_jobs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"launcher\.per_stage"):
        submit_array(slurm_section(per_stage=True), [tmp_path], tmp_path)


def test_how_to_follow_several_jobs() -> None:
    submission = Submission(["7", "8"], [], ["/runs/a/slurm-7.log", "/runs/a/slurm-8.log"])
    lines = SlurmScheduler(SlurmLauncher(name="slurm")).follow(submission)
    assert lines[0] == "submitted: job 7, 8"
    assert "squeue --jobs=7,8" in lines[1]
    assert lines[-1].endswith("scancel 7 8")


def test_one_stage_alone_needs_those_before_it(tmp_path: Path) -> None:
    config = slurm_config()
    with pytest.raises(ConfigError, match="no stage spt; did you mean sft"):
        carry_out(config, tmp_path, only="spt")
    with pytest.raises(ArtifactError, match="stage sft needs stage data, not finished"):
        carry_out(config, tmp_path, only="sft")
