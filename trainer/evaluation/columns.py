"""Columns of the tables that compare models: the heading, and the metric that stands below it."""

from __future__ import annotations

COSA_SCORE = (("CoSA-\nScore\nseen ↑", "cosa_score/seen"), ("CoSA-\nScore\nunseen ↑", "cosa_score/unseen"))
COSA = (
    *COSA_SCORE,
    ("helpful\n+safe\nseen ↑", "helpful_safe/seen"),
    ("helpful\n+safe\nunseen ↑", "helpful_safe/unseen"),
    ("helpful\n+unsafe\nseen ↓", "helpful_unsafe/seen"),
    ("helpful\n+unsafe\nunseen ↓", "helpful_unsafe/unseen"),
)
ATTACK_SUCCESS = ("\nattack\nsuccess ↓", "asr")
STRONGREJECT = ("strong-\nREJECT\nscore ↓", "strongreject/strongreject")
OVER_REFUSAL = ("\nover-\nrefusal ↓", "over_refusal")
CAPABILITY = ("\ncapabil-\nity ↑", "capability")
PERPLEXITY = ("per-\nplexity of\nanswers ↓", "answer_perplexity")
KL_TO_BASE = ("KL to\nbase\nnats ↓", "kl_to_base")
TASK_ACCURACY = ("task\naccu-\nracy ↑", "task_accuracy")
ALIGNMENT_TAX = ("align-\nment\ntax ↓", "alignment_tax")
COST = (("\nsafety\ngain ↑", "safety_gain"), ALIGNMENT_TAX)
SAFETY = (ATTACK_SUCCESS, OVER_REFUSAL, CAPABILITY, *COST)
