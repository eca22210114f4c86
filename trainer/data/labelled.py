"""Text with safety labels, for guardrails: prompts and responses, from the files and hub datasets they are published in."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.files import Row, sample
from trainer.data.hub import read_source
from trainer.errors import DataError

WORDS = {
    **dict.fromkeys(("1", "true", "yes", "unsafe", "harmful", "toxic", "flagged", "malicious", "jailbreak"), 1),
    **dict.fromkeys(("0", "false", "no", "safe", "unharmful", "harmless", "benign", "non-toxic"), 0),
}


@dataclass(frozen=True)
class Labelled:
    """A prompt, with the response to it where there is one. Labels: 1 = to be flagged (unsafe, toxic, inconsistent), 0 = not,
    None = not known."""

    prompt: str
    response: str | None = None
    prompt_label: int | None = None
    response_label: int | None = None


def read_labelled(
    source: str, parse: Callable[[str, Row], Labelled | str], split: str = "train", limit: int | None = None
) -> list[Labelled]:
    """The distinct labelled rows of a data file, a directory of them, or a hub dataset, in their order.

    Rows without a text, without a label, redacted or there twice are left out, and one line says how many.

    Args:
        source: a path (json, jsonl, csv, parquet, also .gz) or a hub name.
        parse: (where a row stands, the row) -> what it says, or why it is left out.
        split: of a directory that holds several, or of the hub dataset.
        limit: read only this many rows, as `files.sample` draws them.

    Raises:
        DataError: nothing can be read or nothing is left, or a row lacks a column, or a text or a label is not one.
    """
    located = sample(read_source(source, split), limit)
    rows: dict[Labelled, None] = {}
    left_out: Counter[str] = Counter()
    for where, row in located:
        made = parse(where, row)
        if isinstance(made, str):
            left_out[made] += 1
        elif made in rows:
            left_out["duplicate"] += 1
        else:
            rows[made] = None
    reasons = ", ".join(f"{count:,} ({reason})" for reason, count in left_out.items())
    if not rows:
        raise DataError(f"{source}: none of the {len(located):,} rows is usable: {reasons}. Give rows with a text and a label.")
    if left_out:
        print(f"{source}: {len(located):,} rows -> {len(rows):,} labelled; left out {reasons}")
    return list(rows)


def split(rows: Iterable[Labelled], sizes: Sequence[int], seed: int) -> list[list[Labelled]]:
    """Disjoint random parts of these sizes, with the same shares of every label.

    All rows of one prompt are in one part; those that do not fit into it any more are in none. A part stays the same
    whatever the sizes after it. Where every prompt occurs once, a part has within two rows of its share of each combination
    of labels.

    Raises:
        DataError: there are too few rows.
    """
    rng = random.Random(f"labelled-{seed}")
    by_prompt: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        by_prompt[row.prompt].append(row)
    strata: dict[str, list[list[Labelled]]] = defaultdict(list)
    for group in by_prompt.values():
        strata[str(sorted(f"{row.prompt_label} {row.response_label}" for row in group))].append(group)
    # Systematic sampling: the groups of a stratum lie evenly between 0 and 1, so that every stretch has its share of each.
    placed: list[tuple[float, list[Labelled]]] = []
    for stratum in sorted(strata):
        rng.shuffle(strata[stratum])
        start = rng.random()
        placed += [((index + start) / len(strata[stratum]), group) for index, group in enumerate(strata[stratum])]
    groups = [group for _, group in sorted(placed, key=lambda item: item[0])]
    parts: list[list[Labelled]] = []
    for size in sizes:
        part: list[Labelled] = []
        while groups and len(part) < size:
            part += groups.pop()[: size - len(part)]
        parts.append(part)
    if [len(part) for part in parts] != list(sizes):
        raise DataError(
            f"parts of {' + '.join(map(str, sizes))} rows cannot be had from {sum(map(len, by_prompt.values()))} rows of "
            f"{len(by_prompt)} prompts, because the rows of a prompt stay together; give more rows or ask for smaller parts."
        )
    return parts


def text_or_empty(value: Any, where: str, column: str) -> str:
    """The text as it stands; empty where there is none."""
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: {column} must be text, is {type(value).__name__}.")
    return value if value and value.strip() else ""


def label_of(value: Any, where: str, column: str) -> int | None:
    """A word, a truth value, or 0 or 1; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and (word := value.strip().lower()) in WORDS:
        return WORDS[word]
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return int(value)
    raise DataError(f"{where}: {column} is {value!r}; a label is 0 or 1, true or false, or one of {', '.join(WORDS)}.")


def labelled(prompt: str, response: str, prompt_label: int | None, response_label: int | None) -> Labelled | str:
    """The row, or why it is left out."""
    if not prompt:
        return "no text"
    if not response:
        response_label = None
    if prompt_label is None and response_label is None:
        return "no label"
    return Labelled(prompt, response or None, prompt_label, response_label)


def opposite(label: int | None) -> int | None:
    return None if label is None else 1 - label
