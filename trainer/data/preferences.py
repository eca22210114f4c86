"""Preference pairs in the one form that training uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from trainer.items import Message


@dataclass(frozen=True)
class Preference:
    """prompt: the conversation up to and including the last user turn. chosen, rejected: the reply to it; None where there is
    nothing but a reply to imitate. where: the file and row it came from."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str | None = None
    where: str = field(default="", compare=False)


@dataclass
class Preferences:
    """What was read: the usable pairs, how many rows there were, and why the others were left out."""

    pairs: list[Preference] = field(default_factory=list)
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, pair: Preference) -> None:
        if not pair.chosen.strip() or (pair.rejected is not None and not pair.rejected.strip()):
            self.dropped["empty response"] += 1
        elif pair.chosen == pair.rejected:
            self.dropped["chosen equals rejected"] += 1
        else:
            self.pairs.append(pair)

    def extend(self, others: Preferences) -> None:
        self.pairs += others.pairs
        self.rows += others.rows
        self.dropped.update(others.dropped)


def sft_examples(pairs: Iterable[Preference]) -> Iterator[dict[str, list[Message]]]:
    """One example per distinct prompt (system prompt included): the last chosen reply, as CoSAlign's authors have it, in TRL's
    prompt-completion form."""
    last = {tuple((m["role"], m["content"]) for m in pair.prompt): pair for pair in pairs}
    return map(imitated, last.values())


def imitated(pair: Preference) -> dict[str, list[Message]]:
    """The chosen reply, in TRL's prompt-completion form: the loss counts the completion alone."""
    return {"prompt": list(pair.prompt), "completion": [{"role": "assistant", "content": pair.chosen}]}


def dpo_examples(pairs: Iterable[Preference]) -> Iterator[dict[str, list[Message]]]:
    """Every pair, in TRL's explicit conversational preference form."""
    for pair in pairs:
        assert pair.rejected is not None  # a method that learns from pairs takes no other data
        yield {
            "prompt": list(pair.prompt),
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
