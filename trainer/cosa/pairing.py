"""Preference pairs from judged candidates (arXiv 2410.08968, section 4.2).

J risks of the prompt, A allowed risks, R(y) risks judged in response y, T categories trained on.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainer.cosa.taxonomy import OTHER_HARMS

ALLOWED_RISK_COST = 0.1
DISALLOWED_RISK_COST = 3.0
NOT_ADDRESSED_COST = 1.0
MAX_CHOSEN_ERROR = 3.0  # a pair whose chosen response is at or above this is skipped


@dataclass(frozen=True)
class Label:
    """What the judges say of one response: its risks R(y), and whether it addresses the request."""

    risks: frozenset[str]
    addressed: bool

    def collapse(self, trained_on: Sequence[str]) -> Label:
        """Risks outside T become one Other Harms, which no config allows."""
        inside = self.risks & set(trained_on)
        return Label(inside | {OTHER_HARMS} if self.risks - inside else inside, self.addressed)


@dataclass(frozen=True)
class Pair:
    chosen: str
    rejected: str
    chosen_label: Label
    rejected_label: Label
    chosen_error: float
    rejected_error: float


def error_score(label: Label, allowed: frozenset[str]) -> float:
    """`0.1 |R(y) & A| + 3 |R(y) \\ A| + [not addressed]`; lower is better (paper, equation for the error score)."""
    return (
        ALLOWED_RISK_COST * len(label.risks & allowed)
        + DISALLOWED_RISK_COST * len(label.risks - allowed)
        + NOT_ADDRESSED_COST * (not label.addressed)
    )


def make_pairs(
    candidates: Iterable[tuple[str, Label]], allowed: frozenset[str], trained_on: Sequence[str], rng: random.Random
) -> list[Pair]:
    """Every usable pair for one prompt under one config.

    Candidates that share a label are pooled, as the judges gave it. For every unordered pair of distinct labels the
    lower error is chosen, where risks outside T count as one; ties and pairs whose chosen error is at least 3 are
    skipped; one response is drawn at random from each pool.
    """
    pools: dict[Label, list[str]] = defaultdict(list)
    for text, label in candidates:
        pools[label].append(text)
    errors = {label: error_score(label.collapse(trained_on), allowed) for label in pools}
    pairs = []
    for first, second in itertools.combinations(pools, 2):
        better, worse = sorted((first, second), key=errors.__getitem__)
        low, high = errors[better], errors[worse]
        if low == high or low >= MAX_CHOSEN_ERROR:
            continue
        pairs.append(Pair(rng.choice(pools[better]), rng.choice(pools[worse]), better, worse, low, high))
    return pairs
