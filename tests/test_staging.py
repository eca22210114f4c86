"""Node-local copies: made once by racing processes, whole or not at all, found again, refused where they do not fit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.local.section import LocalLauncher
from launchers.slurm.section import SlurmLauncher
from trainer.errors import ConfigError
from trainer.models import local_copy as staging
from trainer.models.local_copy import expanded, local_copy

_COPY = "import sys; from trainer.models.local_copy import local_copy; print(local_copy(sys.argv[1], sys.argv[2]))"
# The same, with every file taking its time, so that two processes meet in the middle of it.
_SLOW = (
    """
import shutil, sys, time
copy = shutil.copy2
def slow(source, target, **options):
    print("copying", flush=True)
    time.sleep(0.4)
    return copy(source, target, **options)
tree = shutil.copytree
shutil.copytree = lambda source, target, *_, **__: tree(source, target, copy_function=slow)
"""
    + _COPY
)


def started(code: str, source: Path, scratch: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, str(source), str(scratch)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "shared" / "model"
    (directory / "nested").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "nested/extra.txt"):
        (directory / name).write_bytes(os.urandom(4096))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_two_processes_that_race_share_one_copy(model: Path, tmp_path: Path) -> None:
    ranks = [started(_SLOW, model, tmp_path / "scratch") for _ in range(2)]
    outputs = [rank.communicate(timeout=60)[0].splitlines() for rank in ranks]
    assert sorted(output.count("copying") for output in outputs) == [0, 3], "one copies three files, the other waits"
    assert outputs[0][-1] == outputs[1][-1] != str(model)
    assert contents(Path(outputs[0][-1])) == contents(model)


def test_a_copier_that_is_killed_leaves_nothing_that_counts_as_a_copy(model: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    killed = started(_SLOW, model, scratch)
    assert killed.stdout is not None and killed.stdout.readline() == "copying\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=10)
    assert list(scratch.rglob("*.partial")), "it was killed in the middle"
    copy = Path(local_copy(str(model), str(scratch)))
    assert contents(copy) == contents(model)
    assert not list(scratch.rglob("*.partial"))


def test_the_copy_is_found_again_until_the_original_changes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = str(tmp_path / "scratch")
    first = local_copy(str(model), scratch)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", lambda *_: pytest.fail("copied again"))
        assert local_copy(str(model), scratch) == first
    (model / "model.safetensors").write_bytes(b"another")
    second = local_copy(str(model), scratch)
    assert second != first
    assert contents(Path(second)) == contents(model)


def test_content_decides_and_not_size_and_time(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, weights = str(tmp_path / "scratch"), model / "model.safetensors"
    first, facts = local_copy(str(model), scratch), weights.stat()
    weights.write_bytes(os.urandom(4096))
    os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert contents(Path(local_copy(str(model), scratch))) == contents(model), "another file of the same size and time"
    copied = Path(local_copy(str(model), scratch)) / "model.safetensors"
    copied.write_bytes(os.urandom(4096))
    assert contents(Path(local_copy(str(model), scratch))) == contents(model), "a copy that is damaged at full size"
    (Path(first) / "cache-of-a-map.arrow").write_bytes(b"x")
    weights.write_bytes((Path(first) / "model.safetensors").read_bytes())
    os.utime(weights)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", lambda *_: pytest.fail("copied again"))
        assert local_copy(str(model), scratch) == first, "the same content at another time"


def test_a_copy_that_lost_a_file_is_made_again(model: Path, tmp_path: Path) -> None:
    copy = Path(local_copy(str(model), str(tmp_path / "scratch")))
    (copy / "config.json").unlink()
    (copy / "model.safetensors").write_bytes(b"cut")
    assert contents(Path(local_copy(str(model), str(tmp_path / "scratch")))) == contents(model)


def test_a_single_file_is_copied_too(model: Path, tmp_path: Path) -> None:
    copy = Path(local_copy(str(model / "config.json"), str(tmp_path / "scratch")))
    assert copy.name == "config.json" and copy.read_bytes() == (model / "config.json").read_bytes()


def test_what_does_not_fit_is_read_where_it_is(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: real._replace(free=4096))
    assert local_copy(str(model), str(tmp_path / "scratch")) == str(model)
    assert "do not fit" in capsys.readouterr().err
    assert not list((tmp_path / "scratch").rglob("config.json"))


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.shutil, "copytree", full)
    assert local_copy(str(model), str(tmp_path / "scratch")) == str(model)
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "scratch").rglob("*.partial"))


def test_variables_are_expanded_here_and_an_unset_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    monkeypatch.delenv("NO_SUCH_DISK", raising=False)
    assert expanded("$NODE_DISK/a") == expanded("${NODE_DISK}/a") == tmp_path / "a"
    with pytest.raises(ConfigError, match=r"\$NO_SUCH_DISK, which is not set"):
        expanded("$NO_SUCH_DISK/a")


def test_somebody_elses_directory_is_refused(model: Path, tmp_path: Path) -> None:
    """Where everybody can write, another user may have put a link there before us."""
    (tmp_path / "elsewhere").mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / f"keel-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        local_copy(str(model), str(scratch))


def test_a_hub_name_that_is_nowhere_stays_as_it_is(tmp_path: Path) -> None:
    assert local_copy("nobody/no-such-model", str(tmp_path)) == "nobody/no-such-model"


@pytest.mark.slow
def test_a_staged_model_keeps_its_own_name(tmp_path: Path) -> None:
    """What is saved later must not point to one node's disk."""
    from trainer.config.sections import ModelSection
    from trainer.config.shipped import BASE_DIR
    from trainer.models.load import load_model

    model = load_model(ModelSection(dtype="float32"), str(BASE_DIR), scratch=str(tmp_path))
    assert model.name_or_path == str(BASE_DIR)
    assert list(tmp_path.rglob("model.safetensors"))


def test_only_a_slurm_launcher_has_scratch() -> None:
    assert LocalLauncher().scratch_directory is None
    assert SlurmLauncher(name="slurm", scratch="$TMPDIR").scratch_directory == "$TMPDIR"
