"""Stage `evaluate`: every contender answers the benchmark, a judge reads the answers, and one table compares them. The
guardrails of a run are measured beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from trainer.config.run import RunConfig, to_mapping
from trainer.cosa.score import cosa_value, keeps_to_config
from trainer.dotted import resolve
from trainer.errors import StageFailed
from trainer.evaluation.costs import costs_of, sources_of
from trainer.evaluation.generate import Task, generate_left, read_generations
from trainer.evaluation.metrics import Judged, compare
from trainer.evaluation.roles import roles_of
from trainer.evaluation.tasks import of_task
from trainer.items import Contender, Item, Judge
from trainer.ledger.store import append, ledger_of
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.chain import chain
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR, RESPONSES, RESULTS, base_model_path
from trainer.pipeline.work import TICKET
from trainer.record import fingerprint_of, git_commit, versions, write_json
from trainer.tracking.tracker import Tracker
from trainer.vocabulary import name_of

_SHOWN = 300  # characters of a judge's reply


def contenders(config: RunConfig) -> list[Contender]:
    """The models to compare: those asked for, or all that this chain of stages can provide."""
    suite = config.evaluation
    assert suite is not None  # the stage exists only where it is set
    known = config.method.contenders(config)
    if not suite.asks:
        return []
    if suite.models is not None:
        by_label = {contender.label: contender for contender in known}
        return [by_label[label] for label in suite.models]
    return suite.contenders(known)


def judge_of(config: RunConfig) -> Judge:
    """The judge named in the config."""
    judge: Judge = resolve(config.judge.made)(config.judge, config.model)
    return judge


def run(context: StageContext) -> list[Path]:
    context.connect()
    config = context.config
    rows = contenders(config)
    assert config.evaluation is not None  # the stage exists only where it is set
    items = context.together(config.evaluation.items)
    _generate(context, rows, items)
    if not context.is_main:
        return []
    with Tracker.open(context) as tracker:
        outputs = [context.stage_dir / RESULTS]
        judged = _judge(context, rows, items) if rows else []
        if judged:
            outputs.append(context.stage_dir / RESPONSES)
            with outputs[-1].open("w") as file:
                for row in judged:
                    file.write(json.dumps(_record(row)) + "\n")
            _require_a_judgement(context, judged)
        scores = compare(judged, config.evaluation.resamples, config.seed)
        if config.method.measures is not None:
            pictures: dict[str, Path] = resolve(config.method.measures)(context, scores)
            for name, path in pictures.items():
                tracker.image(name, path)
            outputs += pictures.values()
        roles = roles_of(config, list(scores))
        weights, stages = {row.label: row.weights for row in rows}, chain(config)
        sources = {label: sources_of(config, weights.get(label, label), stages) for label in scores}
        costs = {label: costs_of(of_model, stages, context.run_dir) for label, of_model in sources.items()}
        results = {
            "run": config.run.name,
            "provenance": _provenance(context),
            "roles": roles,
            "models": scores,
            "costs": costs,
        }
        write_json(context.stage_dir / RESULTS, results)
        write_json(context.run_dir / RESULTS, results)
        _append_to_ledger(context)
        _track(tracker, results, context.stage_dir / RESULTS, judged, config.tracking.sample_rows)
    return outputs


def _append_to_ledger(context: StageContext) -> None:
    """The rows can be made again at any time, so that a file system which refuses them ends no evaluation."""
    runs = Path(context.config.paths.runs).expanduser()
    try:
        append(ledger_of(runs), context.run_dir)
    except OSError as error:
        print(f"not in the ledger: {error}; `python -m trainer.ledger rebuild {runs}` adds it", flush=True)


def _generate(context: StageContext, rows: Sequence[Contender], items: Sequence[Item]) -> None:
    models = _Models(context)
    for weights in dict.fromkeys(c.weights for c in rows):
        tasks = [Task.of(weights, c.messages(item)) for c in rows if c.weights == weights for item in items if c.is_asked(item)]
        generate_left(context, tasks, partial(models.loaded, weights))


class _Models:
    """The contenders' models, one at a time on this rank's device; the base stays there for those made of it that follow."""

    def __init__(self, context: StageContext):
        self.context = context
        self._trained = {training.stage for training in context.config.training}
        self._base: Any = None

    @contextmanager
    def loaded(self, weights: str) -> Iterator[tuple[Any, Any]]:
        """The model that a contender's weights are, and its tokenizer."""
        config, run_dir = self.context.config, self.context.run_dir
        path = base_model_path(config, run_dir)
        if weights in self._trained:
            path, self._base = str(run_dir / weights / MODEL_DIR), None  # the base makes room
            trained = load_model(config.model, path, config.model.save_dtype).to(device_of_rank())
            yield trained, load_tokenizer(config.model, path)
            return
        tokenizer = load_tokenizer(config.model, path)
        if self._base is None:
            self._base = load_model(config.model, path).to(device_of_rank())
        with self._made_of_base(weights, path, tokenizer) as made:
            yield made, tokenizer

    def _made_of_base(self, weights: str, path: str, tokenizer: Any) -> AbstractContextManager[Any]:
        if weights == "base":
            return nullcontext(self._base)
        make = self.context.config.method.made_of_base
        assert make is not None  # the method has such contenders
        made: AbstractContextManager[Any] = resolve(make)(weights, self.context, self._base, path, tokenizer)
        return made


def _judge(context: StageContext, rows: Sequence[Contender], items: list[Item]) -> list[Judged]:
    generated = read_generations(context.stage_dir)
    asked = [(c, item, generated[Task.of(c.weights, c.messages(item)).key]) for c in rows for item in items if c.is_asked(item)]
    read = [(item, response) for _, item, response in asked if item.suite != "task"]
    verdicts = iter(judge_of(context.config)([item for item, _ in read], [response for _, response in read]))
    judged = []
    for contender, item, response in asked:
        verdict = of_task(item, response) if item.suite == "task" else next(verdicts)
        judged.append(Judged(contender.label, item, response, verdict.judgement, verdict.replies))
    return judged


def _require_a_judgement(context: StageContext, judged: Sequence[Judged]) -> None:
    """
    Raises:
        StageFailed: nothing was measured.
    """
    if judged and all(row.judgement is None for row in judged):
        said = "; ".join(f"{name}: {reply!r}" for name, reply in judged[0].replies.items())
        raise StageFailed(
            f"stage {context.stage.name}: the judge was not understood on any of {len(judged)} responses, so nothing was "
            f"measured. It said first: {said[:_SHOWN] or 'nothing'}; all is in {context.stage_dir / RESPONSES}. Choose another "
            "judge, such as a larger chat model as judge.path, and start again with run.on_existing=resume."
        )


def _record(row: Judged) -> dict[str, Any]:
    judgement = row.judgement
    told = judgement is not None and row.item.suite == "cosa" and None not in (judgement.rating, judgement.risks)
    return {
        "model": row.label,
        "id": row.item.id,
        "suite": row.item.suite,
        "split": row.item.split,
        "safety_config": row.item.safety_config,
        "situation": row.item.situation,
        "system": row.item.system,
        "prompt": row.item.prompt,
        "response": row.response,
        "judge": dict(row.replies),
        "valid": judgement is not None,
        "risks": sorted(judgement.risks) if judgement else None,
        "rating": judgement.rating if judgement else None,
        "refused": judgement.refused if judgement else None,
        "score": cosa_value(judgement.rating, judgement.risks, row.item.allowed) if judgement and told else None,
        "keeps": keeps_to_config(judgement.risks, row.item.allowed) == 1 if judgement and told else None,
        "correct": judgement.correct if judgement and row.item.suite in ("capability", "task") else None,
    }


def _provenance(context: StageContext) -> dict[str, Any]:
    """What was measured, by whom and on what: the sections of the config, and the fingerprints of all that was read."""
    sections = to_mapping(context.config)
    return {
        **{name: sections[name] for name in ("model", "data", "evaluation", "judge")},
        "method": context.config.method.name,
        "inputs": json.loads((context.stage_dir / TICKET).read_text())["inputs"],
        "git_commit": git_commit(),
        "versions": versions(),
        "seed": context.config.seed,
        "world_size": context.world_size,
        "hardware": f"{context.world_size} x {context.meter.read().device}",
        "config_fingerprint": fingerprint_of(to_mapping(context.config)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _track(tracker: Tracker, results: dict[str, Any], path: Path, judged: Sequence[Judged], sample_rows: int) -> None:
    """The summary is the run's own model, in the words of the vocabulary, so that the axes of W&B span methods; the file of the
    results has all models. A table has every model's answer to the same sample of prompts."""
    own = results["roles"]["own"]
    if own is not None:
        measured = results["models"][own] | results["costs"][own]
        values = {name_of(name): metric["value"] for name, metric in measured.items() if metric["value"] is not None}
        tracker.summary({"model": own, **values})
    tracker.file(path)
    if not judged:
        return
    ids = list(dict.fromkeys(row.item.id for row in judged))
    chosen = set(ids[:: max(1, len(ids) // sample_rows)][:sample_rows] if sample_rows else [])
    rows = [[*_told(row), row.response] for row in judged if row.item.id in chosen]
    tracker.table("responses", ["prompt", "safety config", "situation", "model", "verdict", "response"], rows)


def _told(row: Judged) -> list[str]:
    """prompt, safety config, situation, model, verdict."""
    judgement, verdict = row.judgement, "not understood"
    if judgement is not None:
        words = ["refused"] if judgement.refused else []
        words += ["correct" if judgement.correct else "wrong"] if row.item.suite in ("capability", "task") else []
        words += sorted(judgement.risks) or ["no risk"]
        verdict = ", ".join(words)
    return [row.item.prompt, row.item.safety_config, row.item.situation, row.label, verdict]
