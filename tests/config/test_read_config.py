"""The config in a run's directory, which somebody else may have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from trainer.compose import composed
from trainer.config.load import load_config, read_config, read_own_config
from trainer.config.run import plain_yaml, write_config
from trainer.errors import ConfigError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_config(load_config(composed(["experiment=sft", "model.trust_remote_code=true"])), tmp_path / "config.yaml")
    return tmp_path / "config.yaml"


def test_rights_are_those_of_the_user_who_started_the_run(written: Path) -> None:
    assert read_own_config(written).model.trust_remote_code
    assert not read_config(written).model.trust_remote_code


def test_a_job_does_not_read_what_others_can_write(written: Path) -> None:
    written.chmod(0o660)
    with pytest.raises(ConfigError, match="may be written by others"):
        read_own_config(written)
    assert read_config(written).method.name == "sft"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_job_does_not_read_what_another_user_wrote(written: Path) -> None:
    os.chown(written, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        read_own_config(written)


def test_the_file_is_its_writers_alone_whoever_had_it_before(written: Path) -> None:
    written.chmod(0o666)
    write_config(read_config(written), written)
    assert written.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n",
        "a: &a {b: 1}\nc: {<<: *a}\n",
        "[" * 100_000,
    ],
)
def test_a_few_lines_cannot_stand_for_billions_of_values(text: str, tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        plain_yaml(text)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read as a run's config"):
        read_config(tmp_path / "config.yaml")
