"""From rows to the datasets that trainers map: prompts that are short enough, written to disk."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from datasets import Dataset
from jinja2.exceptions import TemplateError

from trainer.data.formats.rows import RowData
from trainer.data.holdout import hold_out, not_asked_in
from trainer.errors import DataError
from trainer.items import Message
from trainer.methods.pairs.lengths import Cut


class Prompted(Protocol):
    """A row with a prompt. where: the file and row it came from."""

    @property
    def prompt(self) -> tuple[Message, ...]: ...
    @property
    def where(self) -> str: ...


R = TypeVar("R", bound=Prompted)


def short_enough(rows: Sequence[R], tokenizer: Any, limit: int, overlong: str) -> list[R]:
    """The rows whose prompt is not cut: a prompt without its end is another prompt.

    Args:
        limit: tokens of a prompt, at most.
        overlong: `drop` leaves longer ones out.

    Raises:
        DataError: there are longer ones and `overlong` is `error`, or the chat template refuses a prompt.
    """
    lengths = list(_prompt_lengths(rows, tokenizer))
    longer = [f"{row.where}: {length}" for row, length in zip(rows, lengths, strict=True) if length > limit]
    if longer and overlong == "error":
        shown = "; ".join(longer[:3])
        raise DataError(
            f"data: {len(longer)} of {len(rows)} prompts are longer than {limit} tokens ({shown}). Raise "
            "max_length (or data.max_prompt_length, if set), or leave such rows out with data.overlong=drop."
        )
    return [row for row, length in zip(rows, lengths, strict=True) if length <= limit]


def _prompt_lengths(rows: Iterable[Prompted], tokenizer: Any) -> Iterable[int]:
    for row in rows:
        try:
            yield len(_tokens(row.prompt, tokenizer, add_generation_prompt=True))
        except (TemplateError, ValueError) as error:
            raise DataError(
                f"data: {row.where}: the tokenizer's chat template refuses this conversation: {error} "
                f"(roles: {', '.join(message['role'] for message in row.prompt)})."
            ) from error


def _tokens(chat: Sequence[Message], tokenizer: Any, add_generation_prompt: bool = False) -> Sequence[int]:
    ids = tokenizer.apply_chat_template(list(chat), add_generation_prompt=add_generation_prompt, return_dict=True)["input_ids"]
    return cast(Sequence[int], ids)


def both_sides(data: RowData, found: Any, short: Callable[[list[R]], list[R]], seed: int) -> tuple[list[R], list[R]]:
    """The rows to train on, and those that are held out; what is left out is counted in `found.dropped`.

    Args:
        found: what `data` has read.
        short: the rows whose prompt is short enough.

    Raises:
        DataError: `data.validation` holds out none, or all.
    """
    rows: list[R] = short(found.usable)
    found.dropped += Counter({"prompt too long": len(found.usable) - len(rows)})  # less what is 0
    if data.validation is None or not rows:
        return rows, []
    if not isinstance(data.validation, str):
        return hold_out(rows, data.validation, seed)
    held = data.read_validation()
    validation = short(held.usable)
    train = not_asked_in(rows, validation)
    found.dropped += Counter({"prompt in the validation data": len(rows) - len(train)})
    found.dropped += Counter({f"{reason} in the validation data": count for reason, count in held.dropped.items()})
    return train, validation


def that_differ(rows: Sequence[dict[str, Any]], tokenizer: Any, cut: Cut) -> tuple[list[dict[str, Any]], int]:
    """The rows less the pairs of which the cut leaves two equal texts, and how many responses it shortens.

    Args:
        rows: as trainers map them: prompt, and either chosen and rejected or completion, each a list of messages.
    """
    kept, shortened = [], 0
    for row in rows:
        texts = [_tokens([*row["prompt"], *row[name]], tokenizer) for name in row.keys() & {"completion", "chosen", "rejected"}]
        shortened += sum(len(text) > cut.max_length for text in texts)
        if len(texts) == 1 or cut(texts[0]) != cut(texts[1]):
            kept.append(row)
    return kept, shortened


def save_dataset(rows: list[dict[str, Any]], out: Path) -> list[Path]:
    """Write a dataset, in the place of one that is there; returns its files."""
    shutil.rmtree(out, ignore_errors=True)
    Dataset.from_list(rows).save_to_disk(str(out))
    return sorted(out.iterdir())
