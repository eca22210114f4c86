"""The embedded sandbox: a small invented language with an exact judge.

Objects, ingredients and recipes are made-up words, so nothing here can harm anybody, yet every question a
safety method asks has an exact answer: which risks a response carries, whether it helps, what was allowed.
"""

from pathlib import Path

# The shipped models by the name that `model.path` has for them; `build.py` makes them. The second is the first, trained on.
BASE_DIR = Path(__file__).parent / "base"
STEERABLE_DIR = Path(__file__).parent / "steerable"
SHIPPED = {"sandbox": BASE_DIR, "sandbox_steerable": STEERABLE_DIR}
