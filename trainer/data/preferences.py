"""Preference pairs in the one form that training uses, and the readers that bring other formats into it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config.check import looks_local
from trainer.config.schema import PreferenceData
from trainer.data.files import Located, Row, located, read_rows
from trainer.errors import DataError
from trainer.methods.cosalign.taxonomy import COSA, Taxonomy

Message = dict[str, str]

COSALIGN_COLUMNS = ("system_prompt", "prompt", "chosen_response", "rejected_response")
COSALIGN_LABELS = ("spec_i", "spec_j", "chosen_cat", "rejected_cat")  # checked where present
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]*")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Preference:
    """prompt: the conversation up to and including the last user turn. chosen, rejected: the reply to it.
    where: the file and row it came from."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    where: str = field(default="", compare=False)


@dataclass
class Preferences:
    """What was read: the usable pairs, how many rows there were, and why the others were left out."""

    pairs: list[Preference] = field(default_factory=list)
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, pair: Preference) -> None:
        if not pair.chosen.strip() or not pair.rejected.strip():
            self.dropped["empty response"] += 1
        elif pair.chosen == pair.rejected:
            self.dropped["chosen equals rejected"] += 1
        else:
            self.pairs.append(pair)


def read_preferences(data: PreferenceData) -> Preferences:
    """Read `data.path` in `data.format`.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a column, or a row is not what the format says.
    """
    path = data.path or ""
    rows = read_rows(Path(path).expanduser()) if looks_local(path) else hub_rows(path, data.split)
    return READERS[data.format](rows[: data.limit])


def hub_rows(name: str, split: str) -> list[Located]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        dataset = load_dataset(name, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"{name}: the hub dataset cannot be had: {error}. Without a network, download it first and give "
            "data.path=<directory>."
        ) from error
    return located(dataset.to_list(), name)


def require_columns(rows: list[Located], columns: Iterable[str], format_: str) -> None:
    """Raises DataError naming the missing columns and what is there instead, for the first row that lacks one."""
    for where, row in rows:
        if missing := [c for c in columns if c not in row]:
            raise DataError(
                f"{where}: format {format_} needs column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
                f"it has {', '.join(map(str, row)) or 'none'}. Rename them, or choose the data.format that fits."
            )


def _text(row: Row, column: str, where: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{where}: {column} must be text, is {type(value).__name__}.")
    return value


def from_cosalign(rows: list[Located], taxonomy: Taxonomy = COSA) -> Preferences:
    """The published CoSAlign schema; its category labels are checked against the taxonomy."""
    require_columns(rows, COSALIGN_COLUMNS, "cosalign")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        for column in COSALIGN_LABELS:
            if row.get(column) is not None:
                label = _text(row, column, where)
                try:
                    taxonomy.parse_label(label)
                except DataError as error:
                    raise DataError(f"{where}: {column}: {error}") from None
        system, prompt, chosen, rejected = (_text(row, c, where) for c in COSALIGN_COLUMNS)
        messages = ({"role": "system", "content": system}, {"role": "user", "content": prompt})
        result.add(Preference(messages, chosen, rejected, where))
    return result


def parse_transcript(text: str) -> tuple[Message, ...]:
    """`\\n\\nHuman: ...\\n\\nAssistant: ...` as chat messages; turns of one speaker in a row are joined.

    Raises:
        ValueError: there is no turn, or text stands before the first one.
    """
    head, *parts = _TURN.split(text)
    if head.strip() or not parts:
        raise ValueError("does not start with a Human: or Assistant: turn")
    messages: list[Message] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        role = _ROLES[speaker]
        if messages and messages[-1]["role"] == role:
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n\n{said.strip()}".strip()}
        else:
            messages.append({"role": role, "content": said.strip()})
    return tuple(messages)


def from_transcripts(rows: list[Located]) -> Preferences:
    """Anthropic-HH style: two transcripts that differ in the last assistant turn."""
    require_columns(rows, ("chosen", "rejected"), "transcripts")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        try:
            chosen, rejected = (parse_transcript(_text(row, column, where)) for column in ("chosen", "rejected"))
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{where}: transcript {error}.") from None
        if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
            result.dropped["last turn is not the assistant's"] += 1
        elif chosen[:-1] != rejected[:-1]:
            result.dropped["chosen and rejected answer different prompts"] += 1
        elif not chosen[:-1] or chosen[0]["role"] != "user":
            result.dropped["does not start with a user turn"] += 1
        else:
            result.add(Preference(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"], where))
    return result


def _messages(value: Any, column: str, where: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return ({"role": "user" if column == "prompt" else "assistant", "content": value},)
    well_formed = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role") in ("system", "user", "assistant")
        for m in value
    )
    if not well_formed or not value:
        raise DataError(f"{where}: {column} must be text or a list of {{role, content}} messages.")
    return tuple({"role": m["role"], "content": m["content"]} for m in value)


def from_preference(rows: list[Located]) -> Preferences:
    """TRL's explicit preference format: `prompt`, `chosen`, `rejected`, each text or chat messages."""
    require_columns(rows, ("prompt", "chosen", "rejected"), "preference")
    result = Preferences(rows=len(rows))
    for where, row in rows:
        prompt, chosen, rejected = (_messages(row[c], c, where) for c in ("prompt", "chosen", "rejected"))
        if prompt[-1]["role"] != "user":
            raise DataError(f"{where}: prompt must end with a user message, ends with one of the {prompt[-1]['role']}.")
        if any(len(reply) != 1 or reply[0]["role"] != "assistant" for reply in (chosen, rejected)):
            raise DataError(f"{where}: chosen and rejected must be one assistant message each.")
        result.add(Preference(prompt, chosen[0]["content"], rejected[0]["content"], where))
    return result


READERS: Mapping[str, Callable[[list[Located]], Preferences]] = {
    "cosalign": from_cosalign,
    "transcripts": from_transcripts,
    "preference": from_preference,
}


def sft_examples(pairs: Iterable[Preference]) -> Iterator[dict[str, list[Message]]]:
    """One example per distinct prompt (system prompt included): the first chosen reply, in TRL's prompt-completion form."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for pair in pairs:
        key = tuple((m["role"], m["content"]) for m in pair.prompt)
        if key not in seen:
            seen.add(key)
            yield {"prompt": list(pair.prompt), "completion": [{"role": "assistant", "content": pair.chosen}]}


def dpo_examples(pairs: Iterable[Preference]) -> Iterator[dict[str, list[Message]]]:
    """Every pair, in TRL's explicit conversational preference form."""
    for pair in pairs:
        yield {
            "prompt": list(pair.prompt),
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
