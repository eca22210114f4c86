"""All judges of a run read the answers of all its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.config.bases import JudgeSection
from trainer.config.run import RunConfig
from trainer.dotted import resolve
from trainer.errors import ConfigError
from trainer.evaluation.metrics import Judged
from trainer.evaluation.tasks import of_task
from trainer.items import Item, Judge
from trainer.pipeline.context import StageContext

Answer = tuple[str, Item, str]  # label of a model, what it was asked, what it said


@dataclass(frozen=True)
class Readings:
    """Attributes:
    rows: of one judge, a row for each answer that it can tell something of.
    facts: what stands beside its numbers.
    """

    rows: list[Judged]
    facts: dict[str, Any]


def judge_of(section: JudgeSection, key: str, context: StageContext) -> Judge:
    """The judge at this key of the config."""
    judge: Judge = resolve(section.made)(section, key, context)
    return judge


def refuse_the_unjudged(config: RunConfig, items: Sequence[Item]) -> None:
    """
    Raises:
        ConfigError: the main judge, whose numbers stand in the table, can tell nothing of some answers.
    """
    if unjudged := sorted({item.suite for item in items} - config.judge.measures - {"task"}):
        raise ConfigError(
            f"judge: judge={config.judge.name} can tell nothing of {', '.join(unjudged)}, which evaluation="
            f"{config.evaluation.benchmark if config.evaluation else None} asks; take one that can, and this one as a further "
            f"one: judges.NAME.name={config.judge.name}."
        )


def readings(context: StageContext, answers: Sequence[Answer]) -> dict[str, Readings]:
    """Name of a judge -> what it says; the main one first. All ranks call it together.

    The answers to tests of tasks are compared with their references, and no judge is asked.
    """
    found = {}
    for key, section in context.config.judges_by_key.items():
        name = section.name if key == "judge" else key.removeprefix("judges.")
        found[name] = _readings(judge_of(section, key, context), section, answers, with_tasks=key == "judge")
    return found


def _readings(judge: Judge, section: JudgeSection, answers: Sequence[Answer], with_tasks: bool) -> Readings:
    told = [(item, response) for _, item, response in answers if item.suite in section.measures]
    verdicts = iter(judge([item for item, _ in told], [response for _, response in told]))
    rows = []
    for label, item, response in answers:
        if item.suite in section.measures:
            verdict = next(verdicts)
        elif item.suite == "task" and with_tasks:
            verdict = of_task(item, response)
        else:
            continue
        rows.append(Judged(label, item, response, verdict.judgement, verdict.replies))
    return Readings(rows, judge.facts())


def other_verdicts(found: Mapping[str, Readings]) -> dict[tuple[str, str], dict[str, Judged]]:
    """(label of a model, id of an item) -> name of a further judge -> what it says."""
    verdicts: dict[tuple[str, str], dict[str, Judged]] = {}
    for name, readings_ in list(found.items())[1:]:
        for row in readings_.rows:
            verdicts.setdefault((row.label, row.item.id), {})[name] = row
    return verdicts
