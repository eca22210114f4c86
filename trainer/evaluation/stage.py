"""Stage `evaluate`: every contender answers the benchmark, a judge reads the answers, and one table compares them. The
guardrails of a run are measured beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from trainer.config.bases import SuiteSection
from trainer.config.run import RunConfig, to_mapping
from trainer.cosa.score import cosa_value, keeps_to_config
from trainer.dotted import resolve
from trainer.errors import StageFailed
from trainer.evaluation.agreement import agreements
from trainer.evaluation.costs import costs_of
from trainer.evaluation.generate import answers_to, by_model, key_of
from trainer.evaluation.judging import Answer, Readings, other_verdicts, readings, refuse_the_unjudged
from trainer.evaluation.kept import identity_of, inputs_of_stage, kept_of
from trainer.evaluation.measured import add_measured, measure_together
from trainer.evaluation.members import of_member
from trainer.evaluation.metrics import Judged, Metrics, compare
from trainer.evaluation.roles import roles_of
from trainer.items import Chat, Contender, Item
from trainer.ledger.store import append, ledger_of
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.chain import chain
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR, RESPONSES, RESULTS, base_model_path
from trainer.record import fingerprint_of, git_commit, versions, write_json
from trainer.tracking.tracker import Tracker
from trainer.vocabulary import name_of

Asked = tuple[Contender, Item]

_SHOWN = 300  # characters of a judge's reply
_ASKED = "trainer.evaluation.endpoint:asked"  # needs a package that not everybody has


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
    models = _Models(context)
    asked = context.together(partial(who_is_asked_what, config))
    refuse_the_unjudged(config, [item for _, item in asked])
    answers = _answers(context, models, asked)
    measured = measure_together(context, models.loaded, [(suite, compared(config, suite)) for suite in _measuring(config)])
    models.forget()
    found = readings(context, answers) if asked else {}
    if not context.is_main:
        return []
    judged = found[config.judge.name].rows if found else []
    with Tracker.open(context) as tracker:
        outputs = [context.stage_dir / RESULTS]
        if judged:
            outputs.append(context.stage_dir / RESPONSES)
            others = other_verdicts(found)
            with outputs[-1].open("w") as file:
                for row in judged:
                    file.write(json.dumps(_record(row, others.get((row.label, row.item.id), {}))) + "\n")
            _require_a_judgement(context, judged)
        scores = _scores(context, judged, found[config.judge.name].facts if found else {})
        add_measured(scores, measured, config.evaluation.resamples, config.seed)
        if config.method.measures is not None:
            pictures: dict[str, Path] = resolve(config.method.measures)(context, scores)
            for name, path in pictures.items():
                tracker.image(name, path)
            outputs += pictures.values()
        roles = roles_of(config, list(scores))
        weights = {contender.label: contender.weights for contender in contenders(config)}
        costs = {label: costs_of(weights.get(label, label), chain(config), context.run_dir) for label in scores}
        results = {
            "run": config.run.name,
            "provenance": _provenance(context),
            "roles": roles,
            "models": scores,
            "costs": costs,
            **_of_judges(context, found),
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


def _measuring(config: RunConfig) -> list[SuiteSection]:
    assert config.evaluation is not None
    return [suite for suite in config.evaluation.members.values() if suite.measured is not None]


def _answers(context: StageContext, models: _Models, asked: Sequence[Asked]) -> list[Answer]:
    """What every contender says to what it is asked, the same on all ranks."""
    limit = context.config.generation.max_new_tokens
    said: dict[tuple[str, str], str] = {}
    for weights in dict.fromkeys(contender.weights for contender, _ in asked):
        chats = [contender.messages(item) for contender, item in asked if contender.weights == weights]
        texts = models.answers(weights, chats)
        said |= {(weights, key_of(chat, limit)): text for chat, text in zip(chats, texts, strict=True)}
    return [(c.label, item, said[c.weights, key_of(c.messages(item), limit)]) for c, item in asked]


class _Models:
    """The contenders' models, one at a time on this rank's device; the base stays there for those made of it that follow."""

    def __init__(self, context: StageContext):
        self.context = context
        self._trained = {training.stage for training in context.config.training}
        self._base: Any = None

    def forget(self) -> None:
        """The judges want the room."""
        self._base = None

    def answers(self, weights: str, chats: Sequence[Chat]) -> list[str]:
        """What it says to these chats; on all ranks together."""
        context, what = self.context, f"generating ({weights})"
        limit = context.config.generation.max_new_tokens
        if (endpoint := context.config.method.endpoint(weights)) is not None:
            texts: list[str] = resolve(_ASKED)(endpoint, f"method.endpoints.{weights}", context, chats, what)
            return texts
        kept = kept_of(context, weights, identity_of(context, weights))
        answering = by_model(partial(self.loaded, weights), limit, context.config.generation.batch_size)
        return answers_to(context, chats, kept, answering, limit, what)

    @contextmanager
    def loaded(self, weights: str) -> Iterator[tuple[Any, Any]]:
        """The model that a contender's weights are, and its tokenizer."""
        config, run_dir = self.context.config, self.context.run_dir
        own = str(run_dir / weights / MODEL_DIR) if weights in self._trained else config.method.weights_at(weights)
        if own is not None:
            self._base = None  # it makes room
            model = load_model(config.model, own, config.model.save_dtype).to(device_of_rank())
            yield model, load_tokenizer(config.model, own)
            return
        path = base_model_path(config, run_dir)
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


def _of_judges(context: StageContext, found: Mapping[str, Readings]) -> dict[str, Any]:
    """What stands beside the numbers of the main judge; the numbers of the others, and how far each two agree."""
    config = context.config
    assert config.evaluation is not None
    if not found:
        return {}
    judges: dict[str, dict[str, Any]] = {name: {"facts": one.facts} for name, one in found.items()}
    for name in list(found)[1:]:
        judges[name]["models"] = _scores(context, found[name].rows, found[name].facts)
    rows = {name: one.rows for name, one in found.items()}
    return {"judges": judges, "agreement": agreements(rows, config.evaluation.resamples, config.seed)}


def _scores(context: StageContext, judged: Sequence[Judged], facts: Mapping[str, Any]) -> dict[str, Metrics]:
    """The numbers of one judge; each with the judge's AUC, where that is known."""
    config = context.config
    assert config.evaluation is not None
    scores = compare(judged, config.evaluation.resamples, config.seed)
    if "auc" in facts:
        for metric in (metric for metrics in scores.values() for metric in metrics.values()):
            metric["judge_auc"] = facts["auc"]["value"]
    return scores


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


def _record(row: Judged, others: Mapping[str, Judged]) -> dict[str, Any]:
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
        **_said(row),
        "judges": {name: {"judge": dict(other.replies), **_said(other)} for name, other in others.items()},
    }


def _said(row: Judged) -> dict[str, Any]:
    judgement, score, keeps = row.judgement, None, None
    if row.item.suite == "cosa" and judgement and judgement.rating is not None and judgement.risks is not None:
        score = cosa_value(judgement.rating, judgement.risks, row.item.allowed)
        keeps = keeps_to_config(judgement.risks, row.item.allowed) == 1
    return {
        "valid": judgement is not None,
        "risks": sorted(judgement.risks) if judgement and judgement.risks is not None else None,
        "rating": judgement.rating if judgement else None,
        "refused": judgement.refused if judgement else None,
        "score": score,
        "keeps": keeps,
        "correct": judgement.correct if judgement and row.item.suite in ("capability", "task") else None,
        "strongreject": judgement.strongreject if judgement else None,
    }


def _provenance(context: StageContext) -> dict[str, Any]:
    """What was measured, by whom and on what: the sections of the config, and the fingerprints of all that was read."""
    sections = to_mapping(context.config)
    return {
        **{name: sections[name] for name in ("model", "data", "evaluation", "judge", "judges")},
        "method": context.config.method.name,
        "inputs": inputs_of_stage(context),
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
        words += [] if judgement.risks is None else sorted(judgement.risks) or ["no risk"]
        verdict = ", ".join(words)
    return [row.item.prompt, row.item.safety_config, row.item.situation, row.label, verdict]
