"""What a run leaves when it is done, and that it is never the worse for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchers.local.section import LocalLauncher
from tests.sweep.fabricate import finish, run_config
from trainer.compare.of_run import leave_report
from trainer.errors import StageFailed
from trainer.pipeline.places import PICTURE, REPORT, RESULTS
from trainer.pipeline.run import carry_out, run_directory


def test_a_run_without_results_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_report(tmp_path)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"run": "x", "models": {"base": {"asr": null}}}'])
def test_results_that_cannot_be_read_are_named_and_not_fatal(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / RESULTS).write_text(content)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    leave_report(tmp_path)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("report.html: not written (") and f"python -m trainer.compare {tmp_path}" in printed.err
    assert not (tmp_path / "report.html").exists()


def test_they_go_when_a_stage_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StageFailed("it stopped")

    finish(run_config(tmp_path, "one"), {"base": {}})
    changed = run_config(tmp_path, "one", seed=1, run={"name": "one", "on_existing": "resume"})
    left = [run_directory(changed) / name for name in (RESULTS, REPORT, PICTURE)]
    for path in left:
        path.touch()
    monkeypatch.setattr(LocalLauncher, "start", fails)
    with pytest.raises(StageFailed):
        carry_out(changed)
    assert not [path for path in left if path.exists()]
