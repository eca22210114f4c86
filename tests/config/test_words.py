"""Numbers where a config means words, words that Hydra cannot read, and folders of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import to_mapping
from trainer.doctor.__main__ import config_of
from trainer.errors import ConfigError
from trainer.plan.__main__ import main

SLURM = ("experiment=sft", "launcher=slurm", "launcher.gpus_per_node=1")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("launcher.time=90", "time", "90"),
        ("launcher.partition=3090", "partition", "3090"),
        ("launcher.qos=1", "qos", "1"),
        ("launcher.reservation=2024", "reservation", "2024"),
        ("launcher.modules=[2024]", "modules", ["2024"]),
        ("launcher.environment={A: 1}", "environment", {"A": "1"}),
    ],
)
def test_a_number_is_taken_where_a_name_may_be_one(override: str, key: str, value: object) -> None:
    assert getattr(load_config(composed([*SLURM, override])).launcher, key) == value


def test_also_outside_the_launcher() -> None:
    config = load_config(composed(["experiment=sft", "run.name=2024", "tracking.tags=[7]", "tracking.entity=12"]))
    assert (config.run.name, config.tracking.tags, config.tracking.entity) == ("2024", ["7"], "12")
    assert to_mapping(config)["run"]["name"] == "2024"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("launcher.time=43200", "launcher.time: 43200 minutes? YAML reads 12:00:00 as the number 43200: write it in quotes"),
        (
            "launcher.partition=3.10",
            "launcher.partition: was read as the number 3.1, and may have been written otherwise; put it",
        ),
        ("launcher.modules=[1.10]", "launcher.modules: was read as the number 1.1"),
        ("launcher.environment={A: true}", "launcher.environment.A: is text, and was read as True; put it into quotes"),
    ],
)
def test_what_yaml_has_changed_is_not_taken(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(composed([*SLURM, override]))
    assert said in str(error.value)


@pytest.mark.parametrize("value", ["runs/beta/dpo.beta=0.1,seed=0/dpo/model", "runs/é", "pairs(1).jsonl", 'a"b=c', "a{b"])
def test_the_advice_on_quotes_works_when_it_is_followed(value: str) -> None:
    with pytest.raises(ConfigError) as error:
        composed(["experiment=sft", f"model.path={value}"])
    advice = str(error.value).split("the shell's: ")[1]
    followed = subprocess.run(["bash", "-c", f"printf %s {advice}"], capture_output=True, text=True, check=True).stdout
    assert composed(["experiment=sft", followed])["model"]["path"] == value


@pytest.mark.parametrize(
    ("override", "said"),
    [("experiment=cosaling", "did you mean cosalign?"), ("deepspeed=zeor3", "did you mean zero3"), ("launcher=slrum", "slurm")],
)
def test_a_group_names_the_nearest_option(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        composed([override])
    assert said in str(error.value) and "Config search path" not in str(error.value)


def test_a_folder_of_ones_own_adds_to_the_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "a=b, c" / "launcher"
    own.mkdir(parents=True)
    (own / "ours.yaml").write_text('defaults: [slurm]\npartition: gpu\ngpus_per_node: 1\ntime: "01:00:00"\n')
    arguments = ["--config-dir", str(own.parent), "experiment=sft", "launcher=ours"]
    assert main(arguments) == 0
    assert "#SBATCH --partition=gpu" in capsys.readouterr().out
    assert config_of(arguments).launcher.name == "slurm"
    with pytest.raises(ConfigError, match=r"--config-dir: .*nowhere is no folder"):
        composed(["--config-dir", str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match="--config-name: no such option here"):
        composed(["--config-name", "x"])


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_that_lacks_a_character_ends_no_command(locale: dict[str, str], tmp_path: Path) -> None:
    run = "from trainer.sweep.table import Row, print_table; from pathlib import Path; "
    run += f"print_table('tätigkeit ✓ ±', [Row('seed=0 é', 'done', Path({str(tmp_path)!r}))]); print('·')"
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, env={"PATH": "/usr/bin:/bin", **locale}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"seed=0" in done.stdout


def test_every_command_begins_by_preparing_its_terminal() -> None:
    started_by_us = {"trainer/worker.py", "trainer/checkpoints/convert.py"}
    commands = {
        str(path.relative_to(ROOT)): text
        for path in (ROOT / "trainer").rglob("*.py")
        if '__name__ == "__main__"' in (text := path.read_text())
    }
    assert len(commands) > 15
    assert {name for name, text in commands.items() if "\n    prepare()\n" not in text} == started_by_us


def test_a_global_batch_below_the_number_of_ranks_names_the_sizes_that_divide() -> None:
    with pytest.raises(ConfigError, match=r"can be 128 or 256, or another multiple of 128; 200 divides into 1, 2, 4"):
        load_config(composed(["experiment=sft", "launcher.processes=128", "trainer.train_batch_size=200"]))
    with pytest.raises(ConfigError, match=r"can be 128, or another multiple of 128; 32 divides into 1, 2, 4, 8, 16, 32"):
        load_config(composed(["experiment=sft", "launcher.processes=128", "trainer.train_batch_size=32"]))
