"""A smaller version of benchmarks/plan_memory.py: predicted peaks against resident memory of real two-process training."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plan_memory import config_of, measure

SMALL = {"layers": 4, "hidden": 512, "length": 128, "vocabulary": 16384}
BOUND = 0.15  # resident memory also holds what Python and the libraries allocate; in the small model that counts for more


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["zero2", "zero3"])
def test_predicted_peak_is_near_the_measured_one(layout: str, tmp_path: Path) -> None:
    predicted, measured = measure(config_of(tmp_path, layout, SMALL))
    assert predicted == pytest.approx(measured, rel=BOUND)
