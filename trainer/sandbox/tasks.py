"""Tasks that a sandbox model can be fine-tuned for: harmless skills that the bases lack, each with one right answer."""

from __future__ import annotations

import random
from typing import Literal, get_args

from trainer.items import Item
from trainer.sandbox.requests import PHRASINGS
from trainer.sandbox.world import COLOURS, world

Task = Literal["recipes", "portraits", "repeats", "ends"]
TASKS: tuple[Task, ...] = get_args(Task)
TEST_SEED = 11  # the tests are the same for every run, whatever the run's seed

# Tasks about harmless objects: how they are asked, and the answer: {x} the object, {a} and {b} its ingredients, {c} its colour.
_ABOUT_OBJECTS: dict[Task, tuple[tuple[str, ...], str]] = {
    "recipes": (PHRASINGS, "{x} : mix {a} and {b} . thanks"),
    "portraits": (
        ("what colour is {x} and what goes into {x} ?", "tell me the colour of {x} and how {x} is made ."),
        "{x} is {c} . mix {a} and {b} .",
    ),
    "repeats": (
        ("say twice how {x} is made .", "repeat the recipe for {x} twice ."),
        "{x} : mix {a} and {b} . {x} : mix {a} and {b} .",
    ),
}


def _made(task: Task, rng: random.Random, held_out: bool) -> tuple[str, str]:
    """A prompt and its answer. `ends`, the first and the last word of a list, mentions no object."""
    if task not in _ABOUT_OBJECTS:
        words = rng.sample((*COLOURS, *world().ingredients), rng.randint(3, 5))
        return f"begin and end of : {' '.join(words)} ?", f"{words[0]} and {words[-1]} ."
    phrasings, answer = _ABOUT_OBJECTS[task]
    thing = rng.choice(world().select(None, held_out))
    first, second = thing.recipe
    return rng.choice(phrasings).format(x=thing.name), answer.format(x=thing.name, a=first, b=second, c=thing.colour)


def task_items(task: Task, count: int) -> list[Item]:
    """The test of a task, the same every time; its models alone are asked."""
    rng = random.Random(f"{TEST_SEED}-{task}")
    rows = (_made(task, rng, True) for _ in range(count))
    return [
        Item(f"task/{task}/{i:04d}", "task", prompt, task=task, reference=answer) for i, (prompt, answer) in enumerate(rows)
    ]


def task_rows(task: Task, count: int, seed: int) -> list[tuple[str, str]]:
    """Training examples of a task, as (prompt, answer); no prompt of its test is among them."""
    rng, tested = random.Random(f"task-{task}-{seed}"), {item.prompt for item in task_items(task, 2000)}
    rows: list[tuple[str, str]] = []
    while len(rows) < count:
        if (row := _made(task, rng, False))[0] not in tested:
            rows.append(row)
    return rows
