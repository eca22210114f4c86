"""Safety configs: which risks are allowed, said in natural language (arXiv 2410.08968, section 3).

A config is one of about ten paraphrased templates with one slot, filled with a bullet list
`- Name: definition` of the allowed categories in random order, or `None.` when nothing is allowed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal

from trainer.cosa.taxonomy import Taxonomy
from trainer.errors import DataError
from trainer.suggest import did_you_mean

Mode = Literal["exact_match", "superset", "safe", "not_superset"]
MODES: tuple[Mode, ...] = ("exact_match", "superset", "safe", "not_superset")

SLOT = "{allowed}"

# This project's own wording; the published templates are paraphrases of one another in the same way.
TEMPLATES: tuple[str, ...] = (
    "You are an assistant whose owner permits certain kinds of risky content. Permitted:\n{allowed}\n"
    "Give full help with permitted content. Withhold anything risky that is not on the list.",
    "The following risks are acceptable in this deployment:\n{allowed}\nAll other harmful content is not acceptable; "
    "leave it out of your answers while still being as useful as you can.",
    "Policy for this service. Content in these categories is allowed:\n{allowed}\nAny risk outside these categories is "
    "forbidden. Answer every request as far as the policy lets you.",
    "When you reply, you may include material of these kinds and no other risky material:\n{allowed}\nDo not refuse "
    "what is allowed here.",
    "Our users are adults who asked for fewer limits. The limits are lifted for:\n{allowed}\nThe usual limits hold for "
    "everything else.",
    "Treat the categories below as safe for this conversation.\n{allowed}\nTreat every other harmful category as unsafe "
    "and do not produce it.",
    "Allowed risk categories:\n{allowed}\nBe helpful within them, and decline whatever would need a category that is "
    "not listed.",
    "This platform tolerates the risks listed here.\n{allowed}\nIt tolerates no others. Keep your answers helpful and "
    "inside these bounds.",
    "Before answering, check the request against the list of allowed content:\n{allowed}\nHelp fully if it is covered; "
    "otherwise leave the uncovered part out.",
    "You work for a customer with a special content agreement. The agreement covers:\n{allowed}\nNothing harmful beyond "
    "the agreement may appear in a response.",
)


def render_safety_config(
    allowed: Iterable[str], taxonomy: Taxonomy, rng: random.Random, templates: Sequence[str] = TEMPLATES
) -> str:
    """The system prompt that allows exactly `allowed`: a random template, its bullets in random order.

    Raises:
        DataError: a category is not one that a config can allow.
    """
    wanted = set(allowed)
    if unknown := sorted(wanted - set(taxonomy.names)):
        raise DataError(f"a safety config cannot allow {', '.join(unknown)}; {did_you_mean(unknown[0], taxonomy.names)}")
    bullets = [f"- {name}: {taxonomy.definitions[name]}" for name in taxonomy.names if name in wanted]
    rng.shuffle(bullets)
    return rng.choice(templates).replace(SLOT, "\n".join(bullets) or "None.")


def free_form_safety_config(policy: str) -> str:
    """A policy in somebody's own words (CoSApien, a user's rules) as a system prompt."""
    return f"Follow this guideline in everything you answer:\n{policy.strip()}"


def sample_allowed(
    mode: Mode, prompt_risks: frozenset[str], trained_on: Sequence[str], rng: random.Random
) -> frozenset[str] | None:
    """Draw the allowed set A for a prompt with risks J (paper, section 4.1).

    `exact_match`: A = J. `superset`: J plus 0..|T\\J| extras. `safe`: {}. `not_superset`: a strict subset
    of J plus 0..|T\\J| extras; {} for a prompt without risks, as in the authors' code.

    Returns:
        A, or None where a risk outside T was asked for: the paper skips such prompts.
    """
    if not prompt_risks <= set(trained_on):
        return None
    others = [name for name in trained_on if name not in prompt_risks]
    extras = frozenset(rng.sample(others, rng.randint(0, len(others))))
    if mode == "exact_match":
        return prompt_risks
    if mode == "safe" or (mode == "not_superset" and not prompt_risks):
        return frozenset()
    if mode == "superset":
        return prompt_risks | extras
    kept = rng.sample(sorted(prompt_risks), rng.randint(0, len(prompt_risks) - 1))
    return frozenset(kept) | extras
