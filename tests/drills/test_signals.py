"""TERM, USR2 and KILL at every phase: one run under each ZeRO stage is struck again and again, and ends as if nothing had been.

Each drill starts the run where the one before it left off, so a drill also proves that its predecessor lost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import losses, results
from tests.drills.harness import (
    EVALUATED,
    SAVE_EVERY,
    STEPS,
    TABLE,
    Ended,
    Row,
    moment,
    newest_step,
    none_left,
    start,
    stray_wandb_ids,
)  # fmt: skip

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6  # of a loss; the same operations in the same order, so in fact nothing differs
CODES = {"kill": 1, "TERM": 75, "USR2": 75}

# (phase, act, the step in which it happens). In this order a struck run goes forward.
BEFORE_TRAINING = [(phase, act, None) for phase in ("setup", "tokenising") for act in CODES]
MID_STEP = [("mid_step", act, step) for act, step in zip(CODES, (6, 7, 9), strict=True)]
MID_ACCUMULATION = [("mid_accumulation", act, step) for act, step in zip(CODES, (11, 12, 14), strict=True)]
MID_SAVE = [("mid_save", act, step) for act, step in zip(CODES, (15, 17, 21), strict=True)]
LAST_STEP = [("last_step", act, STEPS - 1) for act in CODES]
EVALUATION = [("evaluation", act, None) for act in CODES]
DRILLS = {  # a phase that every ZeRO stage goes through alike is struck once
    "zero2": [*BEFORE_TRAINING, *MID_STEP, *MID_ACCUMULATION, *MID_SAVE, *LAST_STEP, *EVALUATION],
    "zero3": [*MID_STEP, *MID_SAVE],
}


@dataclass
class Campaign:
    """The run that is struck. Attributes: expected: the step that its next start must resume from."""

    zero: str
    cwd: Path
    expected: int = 0

    @property
    def run_dir(self) -> Path:
        return self.cwd / "runs" / "run"

    def strike(self, phase: str, act: str, step: int | None) -> Ended:
        stage = "evaluate" if phase == "evaluation" else "sft"
        when = moment("mid_step" if phase == "last_step" else phase, act, step or 0, stage)
        return start(self.cwd, f"deepspeed={self.zero}", *EVALUATED, **when)


@pytest.fixture(scope="module")
def zero(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed(zero: str, request: pytest.FixtureRequest) -> Path:
    run_dir: Path = request.getfixturevalue(f"undisturbed_{zero}")
    return run_dir


@pytest.fixture(scope="module")
def campaign(zero: str, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(zero, tmp_path_factory.mktemp(f"struck-{zero}"))


@pytest.mark.parametrize(
    ("zero", "phase", "act", "step"),
    [(zero, *drill) for zero, drills in DRILLS.items() for drill in drills],
    indirect=["zero"],
)
def test_nothing_is_lost(campaign: Campaign, undisturbed: Path, phase: str, act: str, step: int | None) -> None:
    if phase == "last_step" and campaign.expected == STEPS:  # the drill before stopped after it: back to before it
        for checkpoint in (campaign.run_dir / "sft" / "checkpoints").glob(f"checkpoint-{STEPS}"):
            checkpoint.rename(checkpoint.with_name("rewound"))
        campaign.expected = newest_step(campaign.run_dir / "sft")
    ended = campaign.strike(phase, act, step)

    assert ended.code == CODES[act], ended.output[-3000:]
    if act == "kill":
        assert "rank 1 of 2 was killed by SIGKILL" in ended.output
    else:
        assert "the same command continues" in ended.output
        if step is not None and phase != "last_step":
            assert f"stopped by SIG{act} after step {newest_step(campaign.run_dir / 'sft')}, which is saved" in ended.output
    assert none_left(campaign.cwd), "ranks outlived the run"
    if phase != "evaluation" and phase != "setup" and phase != "tokenising":
        assert (ended.resumed_from or 0) == campaign.expected, "the start after the drill before did not resume where it should"
    stage_dir = campaign.run_dir / "sft"
    reached = newest_step(stage_dir)
    if step is not None:
        before = step - step % SAVE_EVERY  # the newest regular checkpoint; a kill leaves it
        # A signal is answered after the step that it arrives in, or after the save.
        answered = before + SAVE_EVERY if phase == "mid_save" else step + 1
        assert reached == (max(campaign.expected, before) if act == "kill" else answered)
        assert losses(stage_dir)[:reached] == pytest.approx(losses(undisturbed / "sft")[:reached], abs=TOLERANCE)
    assert not stray_wandb_ids(campaign.run_dir), "a second W&B run was begun"
    campaign.expected = reached
    verdict = f"step {reached} kept" if reached else "nothing to keep"
    TABLE.append(
        Row(f"{act.replace('kill', 'KILL')} {phase.replace('_', ' ')}", campaign.zero, f"{verdict}, {ended.seconds:.0f} s")
    )


@pytest.mark.parametrize("zero", DRILLS, indirect=True)
def test_after_all_drills_the_run_is_the_undisturbed_one(campaign: Campaign, undisturbed: Path) -> None:
    ended = start(campaign.cwd, f"deepspeed={campaign.zero}", *EVALUATED)
    assert ended.code == 0, ended.output[-3000:]
    found, expected = losses(campaign.run_dir / "sft"), losses(undisturbed / "sft")
    assert len(found) == STEPS
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert max(expected) - min(expected) > 0.05, "nothing was learned, so nothing is compared"
    model = "sft/model/model.safetensors"
    assert (campaign.run_dir / model).read_bytes() == (undisturbed / model).read_bytes()
    assert results(campaign.run_dir)["models"] == results(undisturbed)["models"]
    assert not stray_wandb_ids(campaign.run_dir)
    assert {path.parent.name for path in campaign.run_dir.glob("*/wandb_id")} == {"sft", "evaluate"}
    off = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    TABLE.append(Row("all of the above, in one run", campaign.zero, f"losses within {off:.0e}, model and results identical"))
