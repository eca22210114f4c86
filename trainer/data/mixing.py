"""How many examples of each part of a mixture an epoch has, and which."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Literal, TypeVar

T = TypeVar("T")

Strategy = Literal["first_exhausted", "all_exhausted"]


def shares_of(weights: Mapping[str, float]) -> dict[str, Fraction]:
    """Weights that sum to 1, exactly: .1 is a tenth."""
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    total = sum(exact.values())
    return {name: weight / total for name, weight in exact.items()}


def epoch_counts(
    sizes: Mapping[str, int], weights: Mapping[str, float], strategy: Strategy, limit: int | None = None
) -> dict[str, int]:
    """Part -> its examples in one epoch, in the proportions of the weights, to the nearest whole number (the largest remainders
    are rounded up).

    Args:
        sizes: part -> the examples that it has; none is 0.
        strategy: as of `datasets.interleave_datasets`. `first_exhausted`: the longest epoch in which no example is twice, so
            that the part that is smallest for its weight is used up, and of the others some are left out. `all_exhausted`: the
            shortest in which every example is, so that those of the smaller parts come again.
        limit: of the epoch, all parts together.
    """
    shares = shares_of(weights)
    lengths = [size / shares[name] for name, size in sizes.items()]
    total = floor(min(lengths)) if strategy == "first_exhausted" else ceil(max(lengths))
    total = min(total, limit or total)
    counts = {name: floor(total * share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - total * shares[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def mixed(examples: Mapping[str, Sequence[T]], counts: Mapping[str, int], seed: int) -> list[T]:
    """So many examples of each part, all in random order. No example of a part comes again before each has come once."""
    chosen: list[T] = []
    for name, of_part in examples.items():
        rng = random.Random(f"mixture-{seed}-{name}")  # a part's draw does not depend on the other parts
        whole, rest = divmod(counts[name], len(of_part))
        chosen += [*of_part] * whole + rng.sample(list(of_part), rest)
    random.Random(f"mixture-{seed}").shuffle(chosen)
    return chosen
