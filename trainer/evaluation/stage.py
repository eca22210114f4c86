"""Stage `evaluate`: every contender answers the benchmark, a judge reads the answers, and one table compares them. The
guardrails of a run are measured beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainer.config.bases import SuiteSection
from trainer.config.run import RunConfig
from trainer.dotted import resolve
from trainer.errors import StageFailed
from trainer.evaluation.answers import Asked, Models, answers_of
from trainer.evaluation.costs import costs_of_models
from trainer.evaluation.judging import Answer, Readings, other_verdicts, readings, refuse_the_unjudged
from trainer.evaluation.measured import Measured, add_measured, measure_together
from trainer.evaluation.members import of_member
from trainer.evaluation.metrics import Judged
from trainer.evaluation.records import of_judges, provenance_of, record_of, scores_of
from trainer.evaluation.roles import roles_of
from trainer.evaluation.tracked import track
from trainer.items import Contender
from trainer.ledger.store import append, ledger_of
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import RESPONSES, RESULTS
from trainer.record import write_json
from trainer.tracking.tracker import Tracker

_SHOWN = 300  # characters of a judge's reply


def contenders(config: RunConfig) -> list[Contender]:
    """The models to compare: those asked for, or all that this chain of stages can provide."""
    assert config.evaluation is not None  # the stage exists only where it is set
    return list(dict.fromkeys(c for suite in config.evaluation.members.values() for c in compared(config, suite)))


def compared(config: RunConfig, suite: SuiteSection) -> list[Contender]:
    """Those that one of the suites compares."""
    assert config.evaluation is not None
    known = config.method.contenders(config)
    if not suite.asks:
        return []
    if suite.models is not None:
        by_label = {contender.label: contender for contender in known}
        return [by_label[label] for label in suite.models]
    chosen = config.evaluation.models
    return [contender for contender in suite.contenders(known) if chosen is None or contender.label in chosen]


def run(context: StageContext) -> list[Path]:
    context.connect()
    config = context.config
    assert config.evaluation is not None  # the stage exists only where it is set
    asked = context.together(partial(who_is_asked_what, config))
    refuse_the_unjudged(config, [item for _, item in asked])
    answers, measured = _of_models(context, asked)
    found = readings(context, answers) if asked else {}
    if not context.is_main:
        return []
    with Tracker.open(context) as tracker:
        return _leave(context, tracker, found, measured)


def _leave(
    context: StageContext, tracker: Tracker, found: Mapping[str, Readings], measured: Mapping[str, Measured]
) -> list[Path]:
    """Write and track what judges said and what was measured.

    Raises:
        StageFailed: nothing was measured.
    """
    config, outputs = context.config, [context.stage_dir / RESULTS]
    assert config.evaluation is not None
    main = found.get(config.judge.name, Readings([], {}))
    if main.rows:
        outputs.append(context.stage_dir / RESPONSES)
        others = other_verdicts(found)
        with outputs[-1].open("w") as file:
            for row in main.rows:
                file.write(json.dumps(record_of(row, others.get((row.label, row.item.id), {}))) + "\n")
        _require_a_judgement(context, main.rows)
    scores = scores_of(config, main)
    add_measured(scores, measured, config.evaluation.resamples, config.seed)
    if config.method.measures is not None:
        pictures: dict[str, Path] = resolve(config.method.measures)(context, scores)
        for name, path in pictures.items():
            tracker.image(name, path)
        outputs += pictures.values()
    weights = {contender.label: contender.weights for contender in contenders(config)}
    results: dict[str, Any] = {
        "run": config.run.name,
        "provenance": provenance_of(context),
        "roles": roles_of(config, list(scores)),
        "models": scores,
        "costs": costs_of_models(config, {label: weights.get(label, label) for label in scores}, context.run_dir),
        **of_judges(config, found),
    }
    write_json(context.stage_dir / RESULTS, results)
    write_json(context.run_dir / RESULTS, results)
    _append_to_ledger(context)
    track(tracker, results, context.stage_dir / RESULTS, main.rows, config.tracking.sample_rows)
    return outputs


def _append_to_ledger(context: StageContext) -> None:
    """The rows can be made again at any time, so that a file system which refuses them ends no evaluation."""
    runs = Path(context.config.paths.runs).expanduser()
    try:
        append(ledger_of(runs), context.run_dir)
    except OSError as error:
        print(f"not in the ledger: {error}; `python -m trainer.ledger rebuild {runs}` adds it", flush=True)


def who_is_asked_what(config: RunConfig) -> list[Asked]:
    """Every prompt of every suite with every model that is asked it, model by model.

    Raises:
        DataError: a suite's prompts cannot be read.
    """
    assert config.evaluation is not None
    suites = [(compared(config, suite), of_member(name, suite.items())) for name, suite in config.evaluation.members.items()]
    return [
        (contender, item)
        for contender in contenders(config)
        for of_suite, items in suites
        if contender in of_suite
        for item in items
        if contender.is_asked(item)
    ]


def _of_models(context: StageContext, asked: Sequence[Asked]) -> tuple[list[Answer], dict[str, Measured]]:
    """What the models say, and what is measured of those that are loaded here; then they make room for a judge."""
    config, models = context.config, Models(context)
    assert config.evaluation is not None
    measuring = [
        (suite, [c for c in compared(config, suite) if config.method.endpoint(c.weights) is None])
        for suite in config.evaluation.members.values()
        if suite.measured is not None
    ]
    return answers_of(context, models, asked), measure_together(context, models.loaded, measuring)


def _require_a_judgement(context: StageContext, judged: Sequence[Judged]) -> None:
    """
    Raises:
        StageFailed: nothing was measured.
    """
    if all(row.judgement is None for row in judged):
        said = "; ".join(f"{name}: {reply!r}" for name, reply in judged[0].replies.items())
        raise StageFailed(
            f"stage {context.stage.name}: the judge was not understood on any of {len(judged)} responses, so nothing was "
            f"measured. It said first: {said[:_SHOWN] or 'nothing'}; all is in {context.stage_dir / RESPONSES}. Choose another "
            "judge, such as a larger chat model as judge.path, and start again with run.on_existing=resume."
        )
