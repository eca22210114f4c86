"""Back into the queue: when, how often, and as another job where a cluster does not requeue. Slurm's commands are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launchers import jobs
from launchers.slurm import requeue, submit
from launchers.slurm.commands import NoAnswer, slurm
from launchers.slurm.scheduler import SlurmScheduler
from tests.launchers.slurm_config import slurm_config, slurm_section
from trainer.errors import ConfigError, Interrupted, RankLost
from trainer.job import run_in_job
from trainer.pipeline import run as pipeline
from trainer.pipeline.chain import chain

Commands = Callable[..., Path]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Puts commands of these names and shell texts on PATH; returns the file in which every call is a line."""
    called, folder = tmp_path / "called", tmp_path / "bin"
    folder.mkdir()
    called.touch()

    def put(**texts: str) -> Path:
        for name, text in texts.items():
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {called}\n{text}\n')
            (folder / name).chmod(0o755)
        return called

    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(requeue, "_ENDING", 0)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return put


def _shown(requeue: int = 1, state: str = "RUNNING") -> str:
    return f'case "$1" in show) echo "JobId=7 JobState={state} BatchFlag=1 Requeue={requeue}";; esac'


STOPPED, LOST = Interrupted("stopped"), RankLost("rank 1 was killed")


@pytest.mark.parametrize("why", [STOPPED, LOST], ids=["a signal", "a lost rank"])
def test_a_job_goes_back_as_often_as_the_bound_says(why: RankLost, commands: Commands, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    called = commands(scontrol=_shown())
    jobs.record(tmp_path, ["7"], [tmp_path / "job.sbatch"])
    settings = slurm_section(max_requeues=2)
    for time in (1, 2):
        assert requeue.queue_again(settings, tmp_path, why) == Interrupted.exit_code
        assert f"job 7 goes back into the queue (restart {time} of at most 2)" in capsys.readouterr().out
    assert requeue.queue_again(settings, tmp_path, why) == why.exit_code
    assert "was put back into the queue 2 times (launcher.max_requeues)" in capsys.readouterr().out
    assert called.read_text().count("scontrol requeue 7") == 2


def test_what_slurm_started_again_by_itself_does_not_count(commands: Commands, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Preempted many times is no reason to lose the run at its first time limit."""
    called = commands(scontrol=_shown())
    monkeypatch.setenv("SLURM_RESTART_COUNT", "12")
    assert requeue.queue_again(slurm_section(max_requeues=1), tmp_path, STOPPED) == Interrupted.exit_code
    assert "scontrol requeue 7" in called.read_text()


def test_a_job_that_slurm_ends_is_left_to_it(commands: Commands, tmp_path: Path) -> None:
    called = commands(scontrol=_shown(state="CANCELLED"))
    assert requeue.queue_again(slurm_section(), tmp_path, LOST) == LOST.exit_code
    assert "requeue" not in called.read_text()


def test_where_jobs_are_not_requeued_another_one_goes_on(commands: Commands, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    called = commands(scontrol=_shown(requeue=0), sbatch="echo 12; env | grep KEEL_SUCCEEDS >> $TOLD")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    scripts = [tmp_path / "job-sft.sbatch", tmp_path / "job-evaluate.sbatch"]
    for script in scripts:
        script.write_text("")
    jobs.record(tmp_path, ["7", "8"], scripts)
    settings = slurm_section(max_requeues=2)
    assert requeue.queue_again(settings, tmp_path, STOPPED) == Interrupted.exit_code
    said = called.read_text()
    assert f"sbatch --parsable --dependency=afterany:7 {scripts[0]}" in said
    assert "scontrol update JobId=8 Dependency=afterok:12" in said, "what waited for this job waits for the one that goes on"
    assert "scontrol requeue" not in said
    assert (tmp_path / "told").read_text() == "KEEL_SUCCEEDS=1\n"
    assert jobs.times_again(tmp_path, "12") == 1
    assert (jobs.script_of(tmp_path, "12"), jobs.job_after(tmp_path, "12")) == (scripts[0], "8")


def test_an_element_of_an_array_is_continued_alone(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = commands(scontrol=_shown(requeue=0), sbatch="echo 12")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    script = tmp_path / "array-1.sbatch"
    script.write_text("")
    jobs.record(tmp_path, ["7_3"], [script])
    requeue.queue_again(slurm_section(), tmp_path, STOPPED)
    assert f"sbatch --parsable --dependency=afterany:7_3 --array=3 {script}" in called.read_text()
    assert jobs.recorded_jobs(tmp_path) == ["7_3", "12_3"]


def _late(arguments: list[str], environment: object = None) -> str:
    if arguments[0] == "sbatch":
        raise NoAnswer("sbatch got no answer in 60 s")
    return slurm(arguments)


def test_a_successor_of_which_sbatch_did_not_tell_is_neither_this_job_nor_that_of_a_sibling(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "array-1.sbatch"
    script.write_text("")
    monkeypatch.setattr(submit, "_PAUSE", 0.0)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setattr(submit, "slurm", _late)
    jobs.record(tmp_path, ["7_3"], [script])
    queue = "".join(f'echo "{job} RUNNING {script}"; ' for job in ("11_3", "12_4", "7_3", "7_4"))
    commands(scontrol=_shown(requeue=0), squeue=queue)
    assert requeue.queue_again(slurm_section(), tmp_path, STOPPED) == Interrupted.exit_code
    assert jobs.recorded_jobs(tmp_path) == ["7_3", "11_3"]


def test_it_is_said_at_submission(commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands(scontrol=_shown(requeue=0), sbatch="echo 7")
    submit.submit_run(slurm_section(), "first", tmp_path, chain(slurm_config()))
    assert (
        "job 7 may not be requeued here: where it is stopped before it is done, it submits a successor"
        in capsys.readouterr().out
    )


def test_a_job_of_which_sbatch_did_not_tell_is_found_in_the_queue(commands: Commands, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    script = tmp_path / "job.sbatch"
    monkeypatch.setattr(submit, "slurm", _late)
    monkeypatch.setattr(submit, "_PAUSE", 0.0)
    called = commands(squeue=f'echo "5 RUNNING /elsewhere/job.sbatch"; echo "7 PENDING {script}"', scontrol=_shown())
    monkeypatch.delenv("SLURM_JOB_ID")
    assert submit.submit_run(slurm_section(), "first", tmp_path, chain(slurm_config())).job_ids == ["7"]
    (tmp_path / jobs.JOBS).unlink()  # the answer came later still: nothing is written down, and the same command is given again
    assert SlurmScheduler(slurm_section()).jobs_of(tmp_path) == {"7": "PENDING"}
    commands(squeue="")
    with pytest.raises(NoAnswer, match="one may still come, and the same command looks for it"):
        submit.submit_run(slurm_section(), "first", tmp_path, chain(slurm_config()))
    assert "sbatch" not in called.read_text()


def test_a_sweep_longer_than_an_array_may_be_is_several(commands: Commands, tmp_path: Path) -> None:
    called = commands(scontrol='echo "MaxArraySize            = 2"', sbatch=f"wc -l < {tmp_path}/called")
    run_dirs = [tmp_path / f"seed={seed}" for seed in range(5)]
    for run_dir in run_dirs:
        run_dir.mkdir()
    submission = submit.submit_array(slurm_section(), run_dirs, tmp_path / "sweep")
    assert [line.split()[-1] for line in called.read_text().splitlines() if "sbatch" in line] == [
        str(tmp_path / "sweep" / f"array-{number}.sbatch") for number in (1, 2, 3)
    ]
    assert [submission.job_of(index).split("_")[1] for index in range(5)] == ["0", "1", "0", "1", "0"]
    assert [jobs.recorded_jobs(run_dir) for run_dir in run_dirs] == [[submission.job_of(index)] for index in range(5)]
    assert "--array=0-0" in (tmp_path / "sweep" / "array-3.sbatch").read_text()


def test_a_colleagues_job_counts_too(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "this_user", lambda: "ada")
    jobs.record(tmp_path, ["7"], [])
    commands(squeue="", scontrol=_shown(state="PENDING"))
    assert SlurmScheduler(slurm_section()).jobs_of(tmp_path) == {"7": "PENDING"}
    commands(scontrol='echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    assert SlurmScheduler(slurm_section()).jobs_of(tmp_path) == {}


def test_a_line_that_a_crash_cut_short_hides_no_other(tmp_path: Path) -> None:
    jobs.record(tmp_path, ["7"], [])
    with (tmp_path / jobs.JOBS).open("a") as file:
        file.write('{"jobs": ["8"')
    jobs.record(tmp_path, ["9"], [])
    assert jobs.recorded_jobs(tmp_path) == ["7", "9"]


@pytest.mark.parametrize(("error", "again"), [(STOPPED, True), (LOST, True), (ConfigError("x"), False)])
def test_which_ends_lead_back_into_the_queue(error: Exception, again: bool, commands: Commands, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    called = commands(scontrol=_shown())

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "_carry_out", fail)
    code = run_in_job(slurm_config(), tmp_path)
    assert ("scontrol requeue" in called.read_text()) == again
    assert code == (Interrupted.exit_code if again else 2)
