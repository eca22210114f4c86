"""The experiments on a real model, as small as they can be: weights from the package index, two steps, four prompts, and
invented rows under the names of the public data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import losses, results
from tests.real.invented import write_mirror
from tests.training.here import run_here
from trainer.config.packaged import PACKAGED

pytestmark = pytest.mark.slow

MODEL = "smollm2_135m"
TINY = (
    "trainer.max_steps=2",
    "trainer.train_batch_size=4",
    "trainer.per_device_train_batch_size=4",
    "trainer.logging_steps=1",
    "generation.max_new_tokens=4",
)
ASKED = ("evaluation.prompts=4", "evaluation.resamples=50")


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for runs, with a mirror in it."""
    if PACKAGED[MODEL].gguf(MODEL) is None:
        pytest.skip(f"model={MODEL} is not here: {PACKAGED[MODEL].how}")
    directory = tmp_path_factory.mktemp("real")
    write_mirror(directory / "mirror")
    return directory


def tiny(cwd: Path, experiment: str, *overrides: str) -> Path:
    """The run's directory."""
    return run_here(cwd, f"experiment=real/{experiment}", f"paths.mirror={cwd / 'mirror'}", *TINY, *overrides)


@pytest.fixture(scope="module")
def aligned(cwd: Path) -> Path:
    return tiny(cwd, "align", *ASKED, "data.limit=6", "method.rehearsal.limit=4")


def test_align(aligned: Path) -> None:
    answers = (aligned / "answers" / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 4 and all(json.loads(line)["response"] for line in answers)
    assert len(losses(aligned / "sft")) == 2
    models = results(aligned)["models"]
    assert set(models) == {"base", "sft"}
    assert all(metrics["asr"]["n"] == 4 and metrics["over_refusal"]["n"] == 4 for metrics in models.values())


def test_safesteer_from_what_align_left(cwd: Path, aligned: Path) -> None:
    """The teacher is the base under a system prompt: after two steps, it has no refusals to find a direction of."""
    run_dir = tiny(
        cwd, "safesteer", *ASKED, "method.system_prompt=Refuse.", "method.direction.refusal_tokens=[I]", "data.direction=8",
        "data.validation=4", "data.limit=4", "method.rollouts=2", "method.tokens.rollouts=1", "method.tokens.horizon=2",
        "method.tokens.votes=20", "method.tokens.size=8", "on_policy.max_completion_length=4",
    )  # fmt: skip
    assert run_dir == cwd / "real" and len(losses(run_dir / "student")) == 2
    models = results(run_dir)["models"]
    assert set(models) == {"base", "teacher", "safesteer"}
    assert all(metrics["asr"]["n"] == 8 and metrics["over_refusal"]["n"] == 4 for metrics in models.values())


def test_dsa(cwd: Path) -> None:
    run_dir = tiny(cwd, "dsa", "data.train=24", "data.validation=12", "data.held_out=12", "evaluation.resamples=50")
    measured = results(run_dir)["models"]["base"]
    for guardrail in ("plr", "rtb", "lst", "standalone", "prompted"):
        assert 0 <= measured[f"guardrail_auc/{guardrail}/held_out"]["value"] <= 1


def test_cosalign(cwd: Path) -> None:
    run_dir = tiny(cwd, "cosalign", "evaluation=none", "trainer.max_length=96")
    assert len(losses(run_dir / "sft")) == 2
    assert losses(run_dir / "dpo")[0] == pytest.approx(0.6931, abs=1e-2)


def test_safegene_from_what_align_left(cwd: Path, aligned: Path) -> None:
    run_dir = tiny(
        cwd, "safegene", *ASKED, "~data.tasks.questions", "data.distil=8", "data.benign=4", "data.contrast=4",
        "data.degrading=8", "data.recalibration=4", "data.safety=8", "data.probes=4", "method.degrade.band=[0,1]",
        "~recalibrate.max_steps",
    )  # fmt: skip
    models = results(run_dir)["models"]
    assert {"base", "sql/none", "sql/safegene", "sql/resta", "sql/alpha_one"} <= set(models)
