"""What the stages and the models of the method are called."""

from __future__ import annotations

PAIRS = "pairs"  # the stage of preference pairs: `data` is that of labelled texts
STANDALONE, FULL, PROMPTED = "standalone", "full", "prompted"  # baselines of guardrails
ALIGNER = "aligner"
TRAIN, VALIDATION = "train", "validation"  # names of sets of labelled texts; the others are test sets
PROBABILITIES = "probabilities.jsonl"  # of a guardrail: what it says of every text
WEIGHTS, FACTS = "adapter.safetensors", "adapter.json"  # of an adapter
GUARDRAIL_ONLY, TARGETED = "guardrail_only", "dsa_targeted"  # labels of models

_STRENGTH = "dsa_lambda_"


def guardrail_stage(name: str) -> str:
    return f"guardrail_{name}"


def dpo_stage(name: str) -> str:
    return f"dpo_{name}"


ALIGNER_STAGE = dpo_stage(ALIGNER)


def strength_label(strength: float) -> str:
    """The label of the base with the aligner at this strength."""
    return f"{_STRENGTH}{strength}"


def strength_of(label: str) -> float | None:
    """The strength that a label names; None where it names another model."""
    return float(label.removeprefix(_STRENGTH)) if label.startswith(_STRENGTH) else None
