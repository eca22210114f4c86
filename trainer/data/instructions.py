"""Instructions: single user turns, harmful or harmless, from the files and hub datasets they are published in."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trainer.data.columns import InstructionColumns, cell
from trainer.data.files import Located, Row, text_of
from trainer.data.hub import read_source
from trainer.data.labelled import WORDS, is_like_a_label, label_of
from trainer.data.messages import CONTEXTS as BESIDE
from trainer.data.messages import NO_CONTEXT
from trainer.errors import DataError

# Case does not count. `goal` stands before `behavior`: JailbreakBench has both, and its Behavior is only a title.
COLUMNS = ("instruction", "prompt", "goal", "forbidden_prompt", "behavior", "question", "text")
CONTEXTS = (*BESIDE, "contextstring")  # alpaca, dolly, HarmBench
BEFORE = {"contextstring": "\n\n---\n\n"}  # contexts that stand before the instruction, and what stands between
# Columns whose text belongs to the instruction in a way that nobody can guess.
UNCLEAR = ("system", "system_prompt", "history", "passage", "document", "article", "choices", "options")
XSTEST = ("prompt", "type", "focus")  # unsafe contrasts are of a type contrast_...; later versions also have a label


def _known(**columns: Any) -> InstructionColumns:
    return InstructionColumns(**columns)


# Published files, by columns that they have: what decides, and what does not.
KNOWN = {
    (*XSTEST, "label"): _known(label="label"),
    ("prompt", "adversarial", "prompt_harm_label"): _known(  # WildGuardMix
        label="prompt_harm_label", ignore=["adversarial", "response_harm_label", "response_refusal_label"]
    ),
    ("prompt", "prompt_label", "violated_categories"): _known(  # AEGIS 2.0
        label="prompt_label", ignore=["response_label", "prompt_label_source", "response_label_source"]
    ),
    ("question", "risk_area", "specific_harms"): _known(ignore=["*"]),  # Do-Not-Answer: labels of replies
}


def read_instructions(
    source: str,
    split: str | None = None,
    *,
    harmful: bool | None = None,
    columns: InstructionColumns | None = None,
    key: str = "columns",
) -> list[str]:
    """The distinct instructions of a data file, a directory of them, or a hub dataset, in their order.

    They are the first of `COLUMNS` that a row has, with the context that it speaks of. Where a file tells harmful ones from
    harmless ones, only those are read that are meant. What is left out is counted in one line.

    Args:
        source: a path (json, jsonl, csv, parquet, also .gz) or a hub name.
        split: of a directory that holds several, or of the hub dataset; None: there must be just one.
        harmful: which of them are meant; None: both kinds, and no column like a label is looked for.
        columns: what the columns of this file are; None looks for the usual names.
        key: where a config says that.

    Raises:
        DataError: nothing can be read or nothing is left, a row has none of the columns, its instruction is blank or no text,
            or another column could change what it means.
    """
    return instructions_in(read_source(source, split), source, harmful=harmful, columns=columns, key=key)


def instructions_in(
    rows: Sequence[Located],
    source: str,
    *,
    harmful: bool | None = None,
    columns: InstructionColumns | None = None,
    key: str = "columns",
) -> list[str]:
    """As `read_instructions`, of rows that have been read from `source`."""
    found: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    for where, row in rows:
        instruction, label = _instruction(row, where, columns, harmful, key)
        if None not in (label, harmful) and bool(label) != harmful:
            left_out["labelled harmful" if label else "labelled harmless"] += 1
        elif instruction in found:
            left_out["duplicate"] += 1
        else:
            found[instruction] = None
    if not found:
        raise DataError(f"{source}: all {len(rows):,} rows are {', '.join(left_out)}; give {_kind(harmful)}ones.")
    if left_out:
        reasons = ", ".join(f"{count:,} ({reason})" for reason, count in left_out.items())
        print(f"{source}: {len(rows):,} rows -> {len(found):,} {_kind(harmful)}instructions; left out {reasons}")
    return list(found)


def _kind(harmful: bool | None) -> str:
    """As an adjective, with the space behind it."""
    return "" if harmful is None else "harmful " if harmful else "harmless "


def _instruction(
    row: Row, where: str, columns: InstructionColumns | None, harmful: bool | None, key: str
) -> tuple[str, int | None]:
    """The instruction with its context, and its label where there is one: 1 = harmful."""
    names = {str(name).lower(): str(name) for name in row}
    columns = columns or next((known for those, known in KNOWN.items() if names.keys() >= set(those)), InstructionColumns())
    decides = columns.label or columns.safe
    decides = names.get(decides, decides) if decides else None
    column = columns.text or next((names[name] for name in COLUMNS if name in names), None)
    if column is None:
        raise DataError(
            f"{where}: has no instruction: its columns are {', '.join(names.values()) or 'none'}. Name one of them "
            f"{', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, or say which it is with {key}.text."
        )
    used = {name.split(".")[0] for name in (column, decides, columns.context, *columns.ignore) if name is not None}
    context = columns.context or next((names[c] for c in CONTEXTS if c in names and names[c] not in used), None)
    _refuse_unclear(row, where, used if context is None else {*used, context}, harmful, key)
    text = _join(_text(row, column, where), "" if context is None else cell(row, context, where), context or "", where)
    if decides is None:
        return text, int(str(row[names["type"]]).startswith("contrast_")) if names.keys() >= set(XSTEST) else None
    label = label_of(cell(row, decides, where), where, decides, safe=columns.safe is not None)
    if label is None:
        raise DataError(f"{where}: {decides} is empty; say of every row whether it is harmful, or remove the row.")
    return text, label


def _text(row: Row, column: str, where: str) -> str:
    value = text_of({column: cell(row, column, where)}, column, where)
    if not value.strip():
        raise DataError(f"{where}: {column} is blank; remove the row.")
    return value


def _join(text: str, context: object, column: str, where: str) -> str:
    if context is None or (isinstance(context, str) and context.strip().lower() in NO_CONTEXT):
        return text
    if not isinstance(context, str):
        raise DataError(f"{where}: {column} must be text, is {type(context).__name__}.")
    if (between := BEFORE.get(column.lower())) is not None:
        return f"{context}{between}{text}"
    return f"{text}\n\n{context}"


def _refuse_unclear(row: Row, where: str, used: set[str], harmful: bool | None, key: str) -> None:
    """
    Raises:
        DataError: a column that is not used looks as if it said what kind of row this is, by its name or because its cell says
            the other kind, or as if it belonged to the instruction.
    """
    if "*" in used:
        return
    for name, value in row.items():
        if name in used or value in (None, "", [], {}):
            continue
        if str(name).lower() in UNCLEAR:
            raise DataError(
                f"{where}: the column {name} may belong to the instruction; name it with {key}.context, or say that "
                f"it does not count with {key}.ignore=[{name}]."
            )
        if harmful is None:
            continue
        if is_like_a_label(name, value) or WORDS.get(str(value).strip().lower()) == (not harmful):
            raise DataError(
                f"{where}: the column {name} may be a label that tells harmful rows from harmless ones; name it with "
                f"{key}.label (1, true or harmful = harmful) or {key}.safe (the other way round), or say that it does not "
                f"count with {key}.ignore=[{name}]."
            )


def draw(instructions: Sequence[str], counts: Sequence[int], seed: int) -> list[list[str]]:
    """Disjoint random samples of these sizes; a sample stays the same whatever the sizes after it.

    Raises:
        DataError: there are too few distinct instructions.
    """
    pool = list(dict.fromkeys(instructions))
    if sum(counts) > len(pool):
        raise DataError(
            f"samples of {' + '.join(map(str, counts))} need {sum(counts)} distinct instructions, there are {len(pool)}; "
            "give more instructions or ask for smaller samples."
        )
    random.Random(f"instructions-{seed}").shuffle(pool)
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [pool[end - count : end] for end, count in zip(ends, counts, strict=True)]
