"""Text with safety labels, for guardrails: prompts and responses, from the files and hub datasets they are published in."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.check import looks_local
from trainer.data.files import Row, read_rows
from trainer.data.preferences import hub_rows, require_columns
from trainer.errors import DataError

TOXIC = 4.0  # mean human toxicity, 1 to 5, from which a text of ToxiGen counts as toxic
REDACTED = "REDACTED"  # what AEGIS 2.0 says in place of a text that it may not give

# The usual names in the `labelled` format; case does not count. The first that a row has is read.
PROMPTS = ("prompt", "text", "instruction", "question")
RESPONSES = ("response", "completion", "answer")
PROMPT_LABELS = ("prompt_label", "prompt_harm_label")
RESPONSE_LABELS = ("response_label", "response_harm_label")
LABELS = ("label", "unsafe", "is_unsafe", "harmful", "toxic")  # of the response where there is one, else of the prompt
SAFE_LABELS = ("is_safe", "safe")  # the same, the other way round

WORDS = {
    **dict.fromkeys(("1", "true", "yes", "unsafe", "harmful", "toxic", "flagged"), 1),
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


def read_labelled(source: str, format: str, split: str = "train", limit: int | None = None) -> list[Labelled]:
    """The distinct labelled rows of a data file, a directory of them, or a hub dataset, in their order.

    Formats:
        toxigen: a text is toxic where its `toxicity_human` is at least 4; or a machine-written `generation` with the 0/1
            `prompt_label` of what it was written from. Labels the prompt.
        aegis: AEGIS 2.0: `prompt`, `response`, and the labels of both as words. A redacted or missing response has no label.
        beavertails: `prompt`, `response`, `is_safe`. Labels the response. Annotators may disagree about one response: then it
            is there with both labels.
        summedits: `doc`, `summary`, `label` 1 = consistent. Labels the response; an inconsistent summary is what is flagged,
            so a row of theirs with label 0 is one of ours with 1.
        labelled: any of the column names above.

    Rows without a text, without a label, redacted or there twice are left out, and one line says how many.

    Args:
        source: a path (json, jsonl, csv, parquet, also .gz) or a hub name.
        split: of the hub dataset.
        limit: read only this many rows.

    Raises:
        DataError: nothing can be read or nothing is left, or a row lacks a column, or a text or a label is not one.
    """
    located = read_rows(Path(source).expanduser()) if looks_local(source) else hub_rows(source, split)
    located = located[:limit]
    read = READERS[format]
    rows: dict[Labelled, None] = {}
    left_out: Counter[str] = Counter()
    for where, row in located:
        made = read(where, row)
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


def _text(value: Any, where: str, column: str) -> str:
    """The text as it stands; empty where there is none."""
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: {column} must be text, is {type(value).__name__}.")
    return value if value and value.strip() else ""


def _label(value: Any, where: str, column: str) -> int | None:
    """A word, a truth value, or 0 or 1; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and (word := value.strip().lower()) in WORDS:
        return WORDS[word]
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return int(value)
    raise DataError(f"{where}: {column} is {value!r}; a label is 0 or 1, true or false, or one of {', '.join(WORDS)}.")


def _labelled(prompt: str, response: str, prompt_label: int | None, response_label: int | None) -> Labelled | str:
    """The row, or why it is left out."""
    if not prompt:
        return "no text"
    if not response:
        response_label = None
    if prompt_label is None and response_label is None:
        return "no label"
    return Labelled(prompt, response or None, prompt_label, response_label)


def _toxigen(where: str, row: Row) -> Labelled | str:
    if "toxicity_human" not in row and "generation" in row:
        require_columns([(where, row)], ("generation", "prompt_label"), "toxigen")
        text = _text(row["generation"], where, "generation")
        return _labelled(text, "", _label(row["prompt_label"], where, "prompt_label"), None)
    require_columns([(where, row)], ("text", "toxicity_human"), "toxigen")
    try:
        toxicity = float(row["toxicity_human"])
    except (TypeError, ValueError):
        toxicity = math.nan
    if not 1 <= toxicity <= 5:
        raise DataError(f"{where}: toxicity_human is {row['toxicity_human']!r}; it must be a number from 1 to 5.")
    return _labelled(_text(row["text"], where, "text"), "", int(toxicity >= TOXIC), None)


def _aegis(where: str, row: Row) -> Labelled | str:
    require_columns([(where, row)], ("prompt", "response", "prompt_label", "response_label"), "aegis")
    prompt, response = (_text(row[column], where, column) for column in ("prompt", "response"))
    if prompt == REDACTED:
        return "redacted"
    labels = [_label(row[column], where, column) for column in ("prompt_label", "response_label")]
    return _labelled(prompt, "" if response == REDACTED else response, *labels)


def _beavertails(where: str, row: Row) -> Labelled | str:
    require_columns([(where, row)], ("prompt", "response", "is_safe"), "beavertails")
    prompt, response = (_text(row[column], where, column) for column in ("prompt", "response"))
    return _labelled(prompt, response, None, _opposite(_label(row["is_safe"], where, "is_safe")))


def _summedits(where: str, row: Row) -> Labelled | str:
    require_columns([(where, row)], ("doc", "summary", "label"), "summedits")
    doc, summary = (_text(row[column], where, column) for column in ("doc", "summary"))
    return _labelled(doc, summary, None, _opposite(_label(row["label"], where, "label")))


def _any(where: str, row: Row) -> Labelled | str:
    names = {str(name).lower(): name for name in row}

    def column(accepted: Sequence[str]) -> str | None:
        return next((names[name] for name in accepted if name in names), None)

    def label(accepted: Sequence[str]) -> int | None:
        name = column(accepted)
        return None if name is None else _label(row[name], where, name)

    prompt_column, response_column = column(PROMPTS), column(RESPONSES)
    if prompt_column is None or column(PROMPT_LABELS + RESPONSE_LABELS + LABELS + SAFE_LABELS) is None:
        raise DataError(
            f"{where}: has no {'label' if prompt_column else 'text'}: its columns are {', '.join(map(str, row)) or 'none'}. "
            f"Name the text one of {', '.join(PROMPTS)}, a response one of {', '.join(RESPONSES)}, and the label one of "
            f"{', '.join(PROMPT_LABELS + RESPONSE_LABELS + LABELS)} (1 = to be flagged), or {' or '.join(SAFE_LABELS)}."
        )
    response = "" if response_column is None else _text(row[response_column], where, response_column)
    prompt_label, response_label, one_label = label(PROMPT_LABELS), label(RESPONSE_LABELS), label(LABELS)
    if one_label is None:
        one_label = _opposite(label(SAFE_LABELS))
    if prompt_label is None and response_label is None:
        prompt_label, response_label = (None, one_label) if response else (one_label, None)
    return _labelled(_text(row[prompt_column], where, prompt_column), response, prompt_label, response_label)


def _opposite(label: int | None) -> int | None:
    return None if label is None else 1 - label


READERS: Mapping[str, Callable[[str, Row], Labelled | str]] = {
    "toxigen": _toxigen,
    "aegis": _aegis,
    "beavertails": _beavertails,
    "summedits": _summedits,
    "labelled": _any,
}
