"""The sandbox's preference pairs, in the form that training uses."""

from __future__ import annotations

from collections.abc import Callable

from trainer.config.schema import PreferenceData
from trainer.data.files import located
from trainer.data.preferences import Preferences, from_cosalign, from_preference


def sandbox_preferences(data: PreferenceData, seed: int, on_prompt: Callable[[], None] = lambda: None) -> Preferences:
    """Pairs under safety configs (`format=sandbox`), or without: half for safety and half for helpfulness (`sandbox_mix`), or
    all for safety (`sandbox_safety`).

    Args:
        on_prompt: called after each prompt, for a progress bar.
    """
    if data.format in ("sandbox_mix", "sandbox_safety"):
        from trainer.sandbox.instructions import mix_pairs, safety_pairs

        pairs = mix_pairs if data.format == "sandbox_mix" else safety_pairs
        return from_preference(located(pairs(data.prompts, seed)[: data.limit], "sandbox"))
    from trainer.sandbox.candidates import synthesise
    from trainer.sandbox.world import SANDBOX_TAXONOMY

    rows = synthesise(data.prompts, data.pairs_per_config, seed, on_prompt)
    return from_cosalign(located(rows[: data.limit], "sandbox"), SANDBOX_TAXONOMY)
