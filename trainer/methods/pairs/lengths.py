"""How long a prompt may be, in tokens, and where trainers cut what is longer with its response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from trainer.config.run import RunConfig
from trainer.config.training import stage_fields

DEFAULT_MAX_LENGTH = 1024  # TRL's own, for every trainer


class Cut(NamedTuple):
    """How trainers cut a sequence: to at most `max_length` tokens, its start or its end (`mode`: TRL's `truncation_mode`)."""

    max_length: int
    mode: str

    def __call__(self, tokens: Sequence[int]) -> Sequence[int]:
        return tokens[-self.max_length :] if self.mode == "keep_end" else tokens[: self.max_length]

    def told(self, section: str, count: int) -> str:
        """For the line of a data stage: how many responses are cut, if any."""
        return f"; {count:,} responses cut by {section}.max_length={self.max_length}" if count else ""


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


def cuts(config: RunConfig, sections: tuple[str, ...] = ("sft", "dpo")) -> dict[str, Cut]:
    """Section -> the shortest cut of its training stages, for those of these sections that cut."""
    found: dict[str, Cut] = {}
    for training in config.training:
        fields = stage_fields(config, training)
        length = fields.get("max_length", DEFAULT_MAX_LENGTH)
        if training.section in sections and length is not None:
            cut = Cut(length, fields.get("truncation_mode", "keep_start"))
            found[training.section] = min(found.get(training.section, cut), cut)
    return found
