"""Text with safety labels, for guardrails: prompts and responses, from the files and hub datasets they are published in."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.files import Row, sample
from trainer.data.hub import read_source
from trainer.errors import DataError

WORDS = {
    **dict.fromkeys(("unsafe", "harmful", "toxic", "flagged", "malicious", "jailbreak"), 1),
    **dict.fromkeys(("safe", "unharmful", "harmless", "benign", "non-toxic"), 0),
}
TRUTHS = {**dict.fromkeys(("1", "true", "yes"), True), **dict.fromkeys(("0", "false", "no"), False)}


@dataclass(frozen=True)
class Labelled:
    """A prompt, with the response to it where there is one. Labels: 1 = to be flagged (unsafe, toxic, inconsistent), 0 = not,
    None = not known."""

    prompt: str
    response: str | None = None
    prompt_label: int | None = None
    response_label: int | None = None


Parsed = Labelled | str | list[Labelled | str]  # what a row says, or why it is left out; several where it has several responses
Parse = Callable[[str, Row], Parsed]  # takes where a row stands, and the row


def read_labelled(source: str, parse: Parse, split: str = "train", limit: int | None = None) -> list[Labelled]:
    """The distinct labelled rows of a data file, a directory of them, or a hub dataset, in their order.

    Rows without a text, without a label, redacted or there twice are left out, and one line says how many.

    Args:
        source: a path (json, jsonl, csv, parquet, also .gz) or a hub name.
        parse: see `Parse`.
        split: of a directory that holds several, or of the hub dataset.
        limit: read only this many rows, as `files.sample` draws them.

    Raises:
        DataError: nothing can be read or nothing is left, or a row lacks a column, or a text or a label is not one.
    """
    located = sample(read_source(source, split), limit)
    rows: dict[Labelled, None] = {}
    left_out: Counter[str] = Counter()
    for where, row in located:
        parsed = parse(where, row)
        for made in parsed if isinstance(parsed, list) else [parsed]:
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


def label_of(value: Any, where: str, column: str, *, safe: bool = False, threshold: float | None = None) -> int | None:
    """1 = to be flagged, of a truth value, 0 or 1, a word or a number; None where there is none. Of several, in a list or by
    their names in an object, one is enough; a list may also hold the names of what is wrong, and where it is empty nothing is.

    Args:
        safe: true, 1 and yes say that nothing is wrong; a word such as unsafe means what it says.
        threshold: numbers from this on count as true, smaller ones as false.

    Raises:
        DataError: it is none of these, or a list of words says both, as where annotators disagree.
    """
    if isinstance(value, Mapping):
        labels = [label_of(v, where, f"{column}.{k}", safe=safe, threshold=threshold) for k, v in value.items()]
        return worst(labels)
    if isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            return _label_of_words(value, where, column, safe)
        return worst(label_of(v, where, column, safe=safe, threshold=threshold) for v in value) if value else 0
    if value is None or value == "":
        return None
    word = str(value).strip().lower()
    if threshold is not None:
        try:
            return int((float(value) >= threshold) != safe)
        except (TypeError, ValueError):
            raise DataError(f"{where}: {column} is {value!r}; with a threshold it must be a number.") from None
    if isinstance(value, str) and word in WORDS:
        return WORDS[word]
    if word in TRUTHS or (isinstance(value, float) and value in (0, 1)):
        return int(TRUTHS.get(word, bool(value)) != safe)
    raise DataError(
        f"{where}: {column} is {value!r}; a label is 0 or 1, true or false, or one of {', '.join(WORDS)}, or a list of such or "
        "an object with such."
    )


def _label_of_words(words: list[str], where: str, column: str, safe: bool) -> int:
    known = [word for word in words if word.strip().lower() in WORDS or word.strip().lower() in TRUTHS]
    if not known:
        return int(any(word.strip().lower() != "none" for word in words))
    labels = {label_of(word, where, column, safe=safe) for word in known}
    if len(known) < len(words) or len(labels) > 1:
        raise DataError(f"{where}: {column} is {words!r}, which does not say one thing; give one label.")
    return int(bool(labels.pop()))


def worst(labels: Iterable[int | None]) -> int | None:
    """1 where one is, None where none is known."""
    return max((label for label in labels if label is not None), default=None)


def labelled(prompt: str, response: str, prompt_label: int | None, response_label: int | None) -> Labelled | str:
    """The row, or why it is left out."""
    if not prompt:
        return "no text"
    if not response:
        response_label = None
    if prompt_label is None and response_label is None:
        return "no label"
    return Labelled(prompt, response or None, prompt_label, response_label)
