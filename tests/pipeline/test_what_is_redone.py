"""A stage is redone when what it reads has changed, by whichever way; nothing else redoes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launchers.local.section import LocalLauncher
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.errors import ArtifactError, RankLost
from trainer.pipeline.manifest import MANIFEST, write_manifest
from trainer.pipeline.places import RESULTS
from trainer.pipeline.run import carry_out, is_finished
from trainer.pipeline.work import TICKET

ALL = ["data", "sft", "dpo", "evaluate"]


class Ranks:
    """Stands for the processes of a stage. Attributes: made: the stages that were done; leaves: stage -> what it writes."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.leaves = dict.fromkeys(ALL, "the same every time")

    def start(self, _launcher: LocalLauncher, run_dir: Path, name: str, _distributed: bool) -> None:
        self.made.append(name)
        ticket, out = json.loads((run_dir / name / TICKET).read_text()), run_dir / name / "out"
        out.write_text(self.leaves[name])
        write_manifest(run_dir / name, **ticket, config={}, seed=0, world_size=1, seconds=0.0, outputs=[out])

    def again(self, config: RunConfig) -> list[str]:
        """The stages that this start does."""
        self.made = []
        carry_out(config)
        return self.made


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    stand_in = Ranks()
    monkeypatch.setattr(LocalLauncher, "start", lambda *args: stand_in.start(*args))
    return stand_in


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(composed(["experiment=cosalign", f"paths.runs={tmp_path}", "run.name=run"]))


def test_a_stage_that_is_redone_and_differs_takes_with_it_what_was_made_of_it(
    config: RunConfig, ranks: Ranks, tmp_path: Path
) -> None:
    assert ranks.again(config) == ALL
    assert ranks.again(config) == [] and is_finished(config)
    results = tmp_path / "run" / RESULTS
    results.write_text("of the first model")
    assert ranks.again(config) == [] and results.exists()
    shutil.rmtree(tmp_path / "run" / "sft")
    ranks.leaves["sft"] = "another model"
    assert not is_finished(config)
    assert ranks.again(config) == ["sft", "dpo", "evaluate"]
    assert is_finished(config)
    assert not results.exists(), "the table of another model"


def test_a_stage_that_is_redone_and_comes_out_the_same_takes_nothing_with_it(
    config: RunConfig, ranks: Ranks, tmp_path: Path
) -> None:
    ranks.again(config)
    shutil.rmtree(tmp_path / "run" / "sft")
    assert ranks.again(config) == ["sft"]


def test_a_stage_that_left_something_else_is_not_taken_for_what_it_wrote(
    config: RunConfig, ranks: Ranks, tmp_path: Path
) -> None:
    ranks.again(config)
    (tmp_path / "run" / "sft" / "out").write_text("by hand")
    with pytest.raises(ArtifactError, match=r"sft: out changed or vanished .* delete"):
        carry_out(config)


def test_a_stage_without_its_manifest_has_not_finished(
    config: RunConfig, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalLauncher, "start", lambda *_: None)
    with pytest.raises(ArtifactError, match="stage data ended without its manifest"):
        carry_out(config)
    assert not (tmp_path / "run" / "data" / MANIFEST).exists()


def test_survival_is_no_part_of_what_a_run_is(config: RunConfig, ranks: Ranks, tmp_path: Path) -> None:
    """So that the ways out of a bad loss that are printed can be taken."""
    ranks.again(config)
    changed = ["survival.bad_loss=skip", "survival.explosion=null", "survival.hang_timeout=1"]
    again = load_config(composed(["experiment=cosalign", f"paths.runs={tmp_path}", "run.name=run", *changed]))
    assert ranks.again(again) == []


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (["trainer.save_steps=50"], []),
        (["trainer.logging_steps=20", "trainer.save_total_limit=5", "trainer.dataloader_num_workers=4"], []),
        (["sft.dataset_num_proc=2", "model.shape={model_type: llama}", "deepspeed.steps_per_print=7"], []),
        (["trainer.max_grad_norm=0.5"], ["sft", "dpo"]),
        (["deepspeed.zero_optimization.stage=1"], ["sft", "dpo"]),
    ],
)
def test_what_cannot_change_a_result_redoes_nothing(
    change: list[str], redone: list[str], config: RunConfig, ranks: Ranks, tmp_path: Path
) -> None:
    ranks.again(config)
    where = [f"paths.runs={tmp_path}", "run.name=run", "run.on_existing=resume"]
    again = load_config(composed(["experiment=cosalign", *where, *change]))
    assert ranks.again(again) == redone


def test_a_stage_whose_disk_is_not_there_is_no_reason_to_begin_anew(config: RunConfig, ranks: Ranks, tmp_path: Path) -> None:
    ranks.again(config)
    (tmp_path / "run" / "dpo").rename(tmp_path / "disk")
    (tmp_path / "run" / "dpo").symlink_to(tmp_path / "disk")
    assert ranks.again(config) == []
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"dpo: is a link to .*disk, which is not there; bring that back"):
        carry_out(config)


def test_ranks_that_are_lost_after_the_manifest_leave_a_finished_stage(
    config: RunConfig, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = LocalLauncher.start

    def lost(*arguments: Any) -> None:
        start(*arguments)
        raise RankLost("rank 1 of 2 was killed by SIGTERM")

    monkeypatch.setattr(LocalLauncher, "start", lost)
    ranks.again(config)
    assert is_finished(config)
