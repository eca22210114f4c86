"""A run that goes on with another number of ranks keeps its optimiser state: its losses stay those of the undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import losses
from tests.drills.harness import STEPS, TABLE, Row, moment, none_left, start, undisturbed

pytestmark = pytest.mark.slow

TOLERANCE = 2e-4  # as for any two world sizes: other sums in another order
STRUCK = 10
STEADY = ("evaluation=none", "tracking.mode=disabled", "trainer.learning_rate=1e-3", "trainer.lr_scheduler_type=cosine")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(undisturbed(tmp_path_factory.mktemp("undisturbed"), "deepspeed=zero2", *STEADY) / "sft")


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_resumed_on_another_number_of_ranks(tmp_path: Path, steady: list[float], zero: str, before: int, after: int) -> None:
    ended = start(tmp_path, f"deepspeed={zero}", f"launcher.processes={before}", *STEADY, **moment("mid_step", "TERM", STRUCK))
    assert ended.code == 75, ended.output[-3000:]
    ended = start(tmp_path, f"deepspeed={zero}", f"launcher.processes={after}", *STEADY)
    assert ended.code == 0, ended.output[-3000:]
    assert ended.resumed_from == STRUCK + 1
    assert f"written by {before} ranks for {after} now" in ended.output
    assert none_left(tmp_path)
    found = losses(tmp_path / "runs" / "run" / "sft")
    assert len(found) == STEPS
    assert found == pytest.approx(steady, abs=TOLERANCE)
    assert max(steady[STRUCK:]) - min(steady[STRUCK:]) > 50 * TOLERANCE, "nothing happened after the change"
    off = max(abs(a - b) for a, b in zip(found, steady, strict=True))
    TABLE.append(Row(f"{before} ranks, then {after}", zero, f"losses within {off:.0e}"))
