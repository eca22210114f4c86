"""What can be wrong with launcher=slurm is found before anything is submitted, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launchers.slurm.times import seconds_of
from tests.launchers.slurm_config import slurm_config
from trainer.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:15", 1815), ("2:30:00", 9000), ("1-12", 129600), ("1-12:30", 131400), ("1-12:30:15", 131415),
     ("1d", None), ("", None), ("-1", None), ("1:2:3:4", None), ("1-", None)],
)  # fmt: skip
def test_time_is_read_as_slurm_does(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        ({"time": "tomorrow"}, "launcher.time: 'tomorrow' is not a Slurm time"),
        ({"time": "5:00"}, "launcher.time: 300 s leave nothing before the signal"),
        ({"per_stage": True, "stages": {"sft": {"time": "x"}}}, "launcher.stages.sft.time: 'x' is not a Slurm time"),
        (
            {"per_stage": True, "stages": {"sfd": {"nodes": 1}}},
            "launcher.stages.sfd: this run has no such stage; did you mean sft",
        ),
        ({"stages": {"sft": {"nodes": 1}}}, "launcher.stages: sizes by stage need one job per stage"),
        ({"sbatch": ["-p gpu"]}, "'-p gpu' is not one option"),
        ({"sbatch": ["--comment=a\n#SBATCH --uid=0"]}, "is not one option"),
        ({"sbatch": ["--time=5"]}, "launcher.sbatch: --time is set from the launcher's own keys"),
        ({"sbatch": ["--tim=5"]}, "launcher.sbatch: --tim is short for --time, which is set from the launcher's own keys"),
        ({"sbatch": ["--gpus=2"]}, "launcher.sbatch: --gpus is short for --gpus-per-node"),
        ({"sbatch": ["--export=NONE"]}, "launcher.sbatch: --export is set from the launcher's own keys"),
        ({"time": "1:00:00\n"}, "is not a Slurm time"),
        ({"pass_environment": ["NOT_THERE"]}, "launcher.pass_environment: NOT_THERE is not set here"),
        ({"environment": {"SBATCH_PARTITION": "x"}}, "launcher.environment.SBATCH_PARTITION: is Slurm's own variable"),
        ({"environment": {"A\n": "x"}}, "not a name for a variable"),
        ({"setup": ["export WANDB_API_KEY=0123456789abcdef"]}, "launcher.setup[0]: writes a secret into a script"),
        ({"setup": ["git clone https://me:pass@host/x"]}, "launcher.setup[0]: writes a secret into a script"),
        ({"partition": "gpu\nx"}, "launcher.partition: 'gpu\\nx' contains a line break"),
        ({"environment": {"A B": "1"}}, "launcher.environment.A B: not a name for a variable"),
        ({"container_mounts": ["/data"]}, "there is no launcher.container"),
    ],
)
def test_a_mistake_is_named(launcher: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        slurm_config(**launcher)
    assert len(error.value.problems) == 1
    assert said in str(error.value)


def test_what_a_shell_fetches_is_no_secret_that_is_written_down() -> None:
    slurm_config(setup=["export HF_TOKEN=$(cat ~/.hf)", 'export KEY="$OTHER"', "ulimit -n 65536"], sbatch=["--exclusive"])


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        (
            {"partition": "short", "time": "02:00:00"},
            "launcher.time: 02:00:00 is more than the 1:00:00 that the partition allows",
        ),
        ({"time": "2-00"}, "launcher.time: 2-00 is more than the 1-00:00:00 that the partition allows"),
        ({"partition": "lang"}, "launcher.partition: this cluster has no partition lang"),
        ({"partition": "long", "time": "30-0"}, None),
    ],
)
def test_what_slurm_says_of_the_partition(
    launcher: dict[str, Any], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "scontrol"
    fake.write_text(
        "#!/bin/sh\n"
        'short="PartitionName=short Default=NO MaxTime=1:00:00 State=UP"\n'
        'long="PartitionName=long Default=NO MaxTime=UNLIMITED State=UP"\n'
        'main="PartitionName=main Default=YES MaxTime=1-00:00:00 State=UP"\n'
        'case "$3" in short) echo "$short";; long) echo "$long";; -o) echo "$short"; echo "$main";;\n'
        '*) echo "Partition $3 not found" >&2; exit 1;; esac\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if said is None:
        slurm_config(**launcher)
        return
    with pytest.raises(ConfigError) as error:
        slurm_config(**launcher)
    assert [said in line for line in error.value.problems] == [True]


def test_numbers_are_taken_where_names_are_often_numbers() -> None:
    launcher = slurm_config(mem=0, account=1234).launcher
    assert (launcher.mem, launcher.account) == ("0", "1234")  # type: ignore[union-attr]


def test_all_mistakes_show_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        slurm_config(time="x", sbatch=["x"], environment={"1": "y"})
    assert len(error.value.problems) == 3
