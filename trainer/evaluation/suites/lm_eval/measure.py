"""Runs lm-evaluation-harness on the models of a run, each task on one rank, and puts what it says into our results."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from torch import nn

from trainer.errors import DataError
from trainer.evaluation.measured import Loaded, Measured, Unit, measure_left
from trainer.evaluation.statistics import SHARE, macro_interval
from trainer.evaluation.suites.lm_eval.section import LmEvalEvaluation
from trainer.evaluation.suites.lm_eval.tasks import manager_with_files
from trainer.items import Contender
from trainer.pipeline.context import StageContext

_STDERR = 1.96  # standard errors on each side of a 95% interval
_DIGITS = 9  # to which a mean over questions is the metric itself


@dataclass(frozen=True)
class OnTask(Unit):
    """A task on the model of a contender's weights, with its system prompt."""

    system: str | None
    task: str


def measure(
    suite: LmEvalEvaluation, context: StageContext, contenders: Sequence[Contender], loaded: Loaded
) -> dict[str, Measured]:
    """See `trainer/evaluation/measured.py`.

    Raises:
        DataError: a task's data cannot be had.
    """
    units = [OnTask(c.weights, c.system, task) for c in contenders for task in suite.tasks]
    folder = context.stage_dir / "lm_eval_tasks" / f"rank{context.rank}"
    manager = partial(manager_with_files, suite.include_path, suite.tasks, suite.data, folder)
    found = measure_left(context, "lm_eval", units, loaded, partial(_share, suite, manager))
    measured = {}
    for contender in contenders:
        of_label = measured[contender.label] = Measured()
        for task in suite.tasks:
            add_results(
                of_label, found[OnTask(contender.weights, contender.system, task)], suite.resamples, context.config.seed
            )
    return measured


def _share(
    suite: LmEvalEvaluation, manager: Any, units: Sequence[OnTask], model: Any, tokenizer: Any
) -> Iterator[tuple[OnTask, dict[str, Any] | None]]:
    """What the harness says of each unit, all of one model; None where it is no model that gives likelihoods, only answers."""
    if not isinstance(model, nn.Module):
        yield from ((unit, None) for unit in units)
        return
    tasks: TaskManager = manager()
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=suite.batch_size)
    for unit in units:
        yield unit, evaluated(harness, unit.task, suite, tasks, unit.system)


def evaluated(
    harness: HFLM, task: str, suite: LmEvalEvaluation, manager: TaskManager, system: str | None = None
) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` says of a task, and of each of its questions.

    Returns:
        results, higher_is_better, group_subtasks and n-samples as the harness has them; `right`: task without subtasks ->
        metric and filter -> one value per question, in the order of the documents.

    Raises:
        DataError: the task's data cannot be had.
    """
    try:
        with _as_first_local_rank():
            said = simple_evaluate(
                model=harness,
                tasks=[task],
                num_fewshot=suite.num_fewshot,
                limit=suite.limit,
                system_instruction=system,
                apply_chat_template=suite.apply_chat_template,
                fewshot_as_multiturn=suite.fewshot_as_multiturn,
                task_manager=manager,
            )
    except (datasets.exceptions.DatasetsError, OSError) as error:
        raise DataError(
            f"evaluation: the data of the task {task} cannot be had: {error}. Without a network, download it first, or give "
            f"files as evaluation.data.{task}.SPLIT=FILE."
        ) from error
    assert said is not None  # of the first rank
    right: dict[str, dict[str, list[float]]] = {}
    for name, rows in said["samples"].items():
        for row in sorted(rows, key=lambda row: row["doc_id"]):
            for metric in row["metrics"]:
                if isinstance(row[metric], (bool, int, float)):
                    right.setdefault(name, {}).setdefault(f"{metric},{row['filter']}", []).append(float(row[metric]))
    kept = ("results", "higher_is_better", "group_subtasks", "n-samples")
    return {key: said[key] for key in kept} | {"right": right}


@contextmanager
def _as_first_local_rank() -> Iterator[None]:
    """Every rank has tasks of its own here, and the harness gives no results to a process whose LOCAL_RANK is not 0."""
    own = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "0"
    try:
        yield
    finally:
        os.environ.pop("LOCAL_RANK")
        if own is not None:
            os.environ["LOCAL_RANK"] = own


def add_results(measured: Measured, said: Mapping[str, Any] | None, resamples: int, seed: int) -> None:
    """`lm_eval/<task>/<metric>`, with the filter behind a comma where it has a name, of the task and its subtasks, each with
    the harness's standard error; and what its first metric says of each question, for `capability`, where that is a mean."""
    if said is None:
        return
    inside = {name for children in said["group_subtasks"].values() for name in children}
    for task, metrics in said["results"].items():
        for metric, value in metrics.items():
            name, _, filtered = metric.partition(",")
            if filtered and not name.endswith("_stderr") and isinstance(value, (int, float)):
                error = metrics.get(f"{name}_stderr,{filtered}")
                shown = name if filtered == "none" else f"{name},{filtered}"
                measured.metrics[f"lm_eval/{task}/{shown}"] = _entry(value, error, _questions(task, said), resamples, seed)
        if task not in inside:
            right = _right(task, said)
            measured.right |= {} if right is None else {task: right}


def _entry(value: float, error: Any, n: int, resamples: int, seed: int) -> dict[str, Any]:
    """The interval is the value and 1.96 standard errors; Wilson's where all answers of a share are alike."""
    interval: list[float] | None = None
    if isinstance(error, (int, float)) and math.isfinite(error):
        interval = [value - _STDERR * error, value + _STDERR * error]
        if error == 0 and value in SHARE and (alike := macro_interval({"": [value] * n}, resamples, seed, SHARE)) is not None:
            interval = list(alike)
    else:
        error = None
    return {"value": float(value), "ci95": interval, "n": n, "stderr": error}


def _leaves(task: str, said: Mapping[str, Any]) -> list[str]:
    """The tasks without subtasks that it is made of."""
    children = said["group_subtasks"].get(task, [])
    return [leaf for child in children for leaf in _leaves(child, said)] if children else [task]


def _questions(task: str, said: Mapping[str, Any]) -> int:
    return sum(said["n-samples"][leaf]["effective"] for leaf in _leaves(task, said))


def _right(task: str, said: Mapping[str, Any]) -> list[float] | None:
    """By the first metric of the task that lies between 0 and 1, where more is better and the mean over questions is its value;
    None where the first is no such one."""
    first = next((metric for metric in said["results"][task] if "," in metric and "_stderr," not in metric), None)
    if first is None or not said["higher_is_better"].get(task, {}).get(first.partition(",")[0]):
        return None
    values = [value for leaf in _leaves(task, said) for value in said["right"].get(leaf, {}).get(first, [])]
    if not values or not all(0 <= value <= 1 for value in values):
        return None
    mean = math.fsum(values) / len(values)
    return values if round(mean - said["results"][task][first], _DIGITS) == 0 else None
