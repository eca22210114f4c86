"""Answers to the test of a task: right is the reference, word for word."""

from __future__ import annotations

from trainer.items import Item, Judgement, Verdict


def of_task(item: Item, response: str) -> Verdict:
    """Case, spacing and a full stop at the end do not count."""
    correct = _plain(response) == _plain(str(item.reference))
    return Verdict(Judgement(frozenset(), addressed=True, rating=5 if correct else 0, refused=False, correct=correct))


def _plain(text: str) -> str:
    return " ".join(text.lower().rstrip(" .").split())
