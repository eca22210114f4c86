"""A run that goes on with another number of ranks keeps its optimiser state: its losses stay those of the undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import losses
from tests.drills.harness import STEPS, TABLE, Row, none_left, start

pytestmark = pytest.mark.slow

TOLERANCE = 2e-4  # as for any two world sizes: other sums in another order
STRUCK = 10
STEADY = ("evaluation=none", "tracking.mode=disabled", "trainer.learning_rate=1e-3", "trainer.lr_scheduler_type=cosine")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    cwd = tmp_path_factory.mktemp("undisturbed")
    ended = start(cwd, "deepspeed=zero2", *STEADY)
    assert ended.code == 0, ended.output[-3000:]
    return losses(cwd / "runs" / "run" / "sft")


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_resumed_on_another_number_of_ranks(
    tmp_path: Path, undisturbed: list[float], zero: str, before: int, after: int
) -> None:
    moment = {"DRILL_STAGE": "sft", "DRILL_PHASE": "mid_step", "DRILL_ACT": "TERM", "DRILL_STEP": str(STRUCK)}
    ended = start(tmp_path, f"deepspeed={zero}", f"launcher.processes={before}", *STEADY, **moment)
    assert ended.code == 75, ended.output[-3000:]
    ended = start(tmp_path, f"deepspeed={zero}", f"launcher.processes={after}", *STEADY)
    assert ended.code == 0, ended.output[-3000:]
    assert ended.resumed_from == STRUCK + 1
    assert f"written by {before} ranks for {after} now" in ended.output
    assert none_left(tmp_path)
    found = losses(tmp_path / "runs" / "run" / "sft")
    assert len(found) == STEPS
    assert found == pytest.approx(undisturbed, abs=TOLERANCE)
    assert max(undisturbed[STRUCK:]) - min(undisturbed[STRUCK:]) > 50 * TOLERANCE, "nothing happened after the change"
    off = max(abs(a - b) for a, b in zip(found, undisturbed, strict=True))
    TABLE.append(Row(f"{before} ranks, then {after}", zero, f"losses within {off:.0e}"))
