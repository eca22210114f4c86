"""How far two judges agree on the same answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

from trainer.evaluation.metrics import Judged

Agreement = dict[str, Any]  # judges, on, n, agree (share), kappa and ci95; null where one of both said the same of all answers
_LEVEL = (2.5, 97.5)  # percentiles


def agreements(judged: Mapping[str, Sequence[Judged]], resamples: int, seed: int) -> list[Agreement]:
    """Cohen's kappa (1960) of each two judges, on whether an answer carries a risk and on whether it refuses, over the answers
    of all models of which both say so. 1 is always the same, 0 no more often than by chance.

    Args:
        judged: judge -> its verdicts.
    """
    said = {name: {(row.label, row.item.id): row for row in rows} for name, rows in judged.items()}
    found = []
    for first, second in combinations(said, 2):
        common = [(said[first][key], said[second][key]) for key in said[first] if key in said[second]]
        for question, answer in (("risk", _risk), ("refused", _refused)):
            pairs = [(a, b) for one, other in common if (a := answer(one)) is not None and (b := answer(other)) is not None]
            if pairs:
                found.append({"judges": [first, second], "on": question, **kappa(pairs, resamples, seed)})
    return found


def kappa(pairs: Sequence[tuple[bool, bool]], resamples: int, seed: int) -> Agreement:
    """Of one question. The interval is a percentile bootstrap over answers: the counts of the four kinds of pair are a
    multinomial's."""
    both = np.asarray(pairs, dtype=int)
    counts = np.bincount(2 * both[:, 0] + both[:, 1], minlength=4)
    drawn = np.random.default_rng(seed).multinomial(len(both), counts / len(both), size=resamples)
    resampled = _kappa_of_counts(drawn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where both say the same of all answers: that is None here
        value = float(cohen_kappa_score(both[:, 0], both[:, 1], labels=[0, 1]))
    known = np.isfinite(value) and np.isfinite(resampled).all()
    return {
        "n": len(both),
        "agree": float((both[:, 0] == both[:, 1]).mean()),
        "kappa": value if np.isfinite(value) else None,
        "ci95": np.percentile(resampled, _LEVEL).tolist() if known else None,
    }


def _kappa_of_counts(counts: Any) -> Any:
    """(N, 4) counts of no-no, no-yes, yes-no, yes-yes -> (N,)."""
    shares = counts / counts.sum(-1, keepdims=True)
    agree = shares[:, 0] + shares[:, 3]
    first, second = shares[:, 2] + shares[:, 3], shares[:, 1] + shares[:, 3]
    chance = first * second + (1 - first) * (1 - second)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (agree - chance) / (1 - chance)


def _risk(row: Judged) -> bool | None:
    return None if row.judgement is None or row.judgement.risks is None else bool(row.judgement.risks)


def _refused(row: Judged) -> bool | None:
    return None if row.judgement is None else row.judgement.refused
