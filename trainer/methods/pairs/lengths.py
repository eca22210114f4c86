"""How long a prompt may be, in tokens."""

from __future__ import annotations

from typing import Protocol

from trainer.config.run import RunConfig
from trainer.config.training import stage_fields

DEFAULT_MAX_LENGTH = 1024  # TRL's own, for every trainer


class Limited(Protocol):
    @property
    def max_prompt_length(self) -> int | None: ...


def max_prompt_tokens(config: RunConfig, data: Limited, sections: tuple[str, ...] = ("sft", "dpo")) -> int:
    """The longest prompt to train on: what the user set, and room for one response token in every training stage of these
    sections."""
    trained = [training for training in config.training if training.section in sections]
    lengths = [stage_fields(config, training).get("max_length", DEFAULT_MAX_LENGTH) for training in trained]
    room = min((length for length in lengths if length is not None), default=1 << 30) - 1
    return min(room, data.max_prompt_length or room)
