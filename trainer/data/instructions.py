"""Instructions: single user turns, harmful or harmless, from the files and hub datasets they are published in."""

from __future__ import annotations

import random
from collections.abc import Sequence

from trainer.data.files import Located, sample
from trainer.data.hub import read_source
from trainer.errors import DataError

# Case does not count. `goal` stands before `behavior`: JailbreakBench has both, and its Behavior is only a title.
COLUMNS = ("instruction", "prompt", "goal", "forbidden_prompt", "behavior", "question", "text")


def read_instructions(source: str, split: str = "train", limit: int | None = None) -> list[str]:
    """The distinct instructions of a data file, a directory of them, or a hub dataset, in their order.

    They are the first of `COLUMNS` that a row has. Duplicates are dropped, and one line says how many.

    Args:
        source: a path (json, jsonl, csv, parquet, also .gz) or a hub name.
        split: of a directory that holds several, or of the hub dataset.
        limit: read only this many rows, as `files.sample` draws them.

    Raises:
        DataError: nothing can be read, or a row has none of the columns, or its instruction is blank or no text.
    """
    instructions = [_instruction(row) for row in sample(read_source(source, split), limit)]
    distinct = list(dict.fromkeys(instructions))
    if duplicates := len(instructions) - len(distinct):
        print(f"{source}: {len(instructions):,} rows -> {len(distinct):,} instructions; left out {duplicates:,} (duplicate)")
    return distinct


def _instruction(located_row: Located) -> str:
    where, row = located_row
    names = {str(name).lower(): name for name in row}
    column = next((names[c] for c in COLUMNS if c in names), None)
    if column is None:
        raise DataError(
            f"{where}: has no instruction: its columns are {', '.join(map(str, row)) or 'none'}. "
            f"Name one of them {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}."
        )
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{where}: {column} must be text, is {type(value).__name__}.")
    if not value.strip():
        raise DataError(f"{where}: {column} is blank; remove the row.")
    return value


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
