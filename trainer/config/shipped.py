"""The models that come with the package, by the name that `model.path` has for them; `trainer/sandbox/build.py` makes them."""

from __future__ import annotations

from pathlib import Path

_SANDBOX = Path(__file__).parents[1] / "sandbox"
BASE_DIR = _SANDBOX / "base"
STEERABLE_DIR = _SANDBOX / "steerable"  # the first, trained on
SHIPPED = {"sandbox": BASE_DIR, "sandbox_steerable": STEERABLE_DIR}
