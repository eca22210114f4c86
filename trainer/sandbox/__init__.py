"""The embedded sandbox: a small invented language with an exact judge.

Objects, ingredients and recipes are made-up words, so nothing here can harm anybody, yet every question a
safety method asks has an exact answer: which risks a response carries, whether it helps, what was allowed.
"""

from pathlib import Path

BASE_DIR = Path(__file__).parent / "base"  # the shipped base model; `build.py` makes it
