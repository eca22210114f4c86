"""Evaluation prompts from files: harmful requests (attack success) and harmless ones (over-refusal)."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.data.instructions import draw, read_instructions
from trainer.evaluation.items import Item

PROMPTS_SEED = 0  # the same prompts for every run, whatever the run's seed


def prompt_items(attacks: Mapping[str, str], benign: Mapping[str, str], limit: int | None) -> list[Item]:
    """The prompts of all sets; an item's split is its set.

    Args:
        attacks, benign: name -> file or hub dataset. limit: at most so many of each set, drawn once and for all.

    Raises:
        DataError: a set cannot be read.
    """
    items = []
    for suite, sets in (("attack", attacks), ("over_refusal", benign)):
        for name, source in sets.items():
            prompts = read_instructions(source)
            if limit is not None and limit < len(prompts):
                (prompts,) = draw(prompts, [limit], PROMPTS_SEED)
            items += [Item(f"{suite}/{name}/{i:04d}", suite, prompt, split=name) for i, prompt in enumerate(prompts)]  # type: ignore[arg-type]  # both are suites
    return items
