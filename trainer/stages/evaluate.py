"""Stage `evaluate`: every contender answers the benchmark, a judge reads the answers, and one table compares them. The
guardrails of a run are measured beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.config.load import to_mapping
from trainer.config.schema import (
    CosalignTestEvaluation,
    DsaMethod,
    GuardrailEvaluation,
    PromptsEvaluation,
    RunConfig,
    SandboxEvaluation,
    SandboxSafetyEvaluation,
)
from trainer.config.trl_fields import training_stages
from trainer.evaluation.generate import Task, device_of_rank, generate_share, read_generations, this_ranks_share
from trainer.evaluation.guardrails import measure_guardrails
from trainer.evaluation.items import Contender, Item, Judge, known_contenders
from trainer.evaluation.metrics import Judged, Metrics, compare
from trainer.evaluation.report import RESULTS
from trainer.models.load import MODEL_DIR, base_model_path, load_model, load_tokenizer
from trainer.stages.context import StageContext
from trainer.stages.manifest import fingerprint_of, git_commit, versions, write_json
from trainer.tracking.tracker import Tracker

RESPONSES = "responses.jsonl"


def contenders(config: RunConfig) -> list[Contender]:
    """The models to compare: those asked for, or all that this chain of stages can provide."""
    evaluation = config.evaluation
    assert evaluation is not None  # the stage exists only where it is set
    if isinstance(evaluation, GuardrailEvaluation):
        return []
    known = known_contenders(config)
    if evaluation.models is not None:
        return [known[label] for label in evaluation.models]
    configs = evaluation.benchmark in ("sandbox", "cosalign_test")  # elsewhere there is no safety config to show
    shots = evaluation.benchmark == "sandbox"
    return [c for c in known.values() if (configs or not c.in_context) and (shots or not c.shots)]


def benchmark_items(config: RunConfig) -> list[Item]:
    """The benchmark named in the config."""
    evaluation = config.evaluation
    if isinstance(evaluation, GuardrailEvaluation):
        return []
    if isinstance(evaluation, SandboxEvaluation):
        from trainer.sandbox.benchmark import sandbox_items

        return sandbox_items(evaluation.prompts, evaluation.capability_prompts, evaluation.over_refusal_prompts)
    if isinstance(evaluation, SandboxSafetyEvaluation):
        from trainer.sandbox.benchmark import safety_items

        return safety_items(evaluation.prompts, evaluation.capability_prompts, evaluation.over_refusal_prompts)
    if isinstance(evaluation, PromptsEvaluation):
        from trainer.evaluation.prompts import prompt_items

        return prompt_items(evaluation.attacks, evaluation.benign, evaluation.prompts)
    from trainer.methods.cosalign.benchmark import cosalign_test_items

    assert isinstance(evaluation, CosalignTestEvaluation)
    return cosalign_test_items(Path(evaluation.path or ""), evaluation.prompts)


def judge_of(context: StageContext) -> Judge:
    """The judge named in the config."""
    if context.config.judge.name == "exact":
        from trainer.sandbox.benchmark import exact_judge

        return exact_judge
    from trainer.methods.cosalign.model_judge import ModelJudge

    return ModelJudge(context.config.judge, context.config.model)


def run(context: StageContext) -> list[Path]:
    context.connect()
    config = context.config
    rows = contenders(config)
    items = context.together(lambda: benchmark_items(config))
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
        assert config.evaluation is not None
        scores = compare(judged, config.evaluation.resamples, config.seed)
        if isinstance(config.method, DsaMethod):
            outputs += _show_adapters(context, scores, tracker)
        results = {"run": config.run.name, "provenance": _provenance(context), "models": scores}
        write_json(context.stage_dir / RESULTS, results)
        write_json(context.run_dir / RESULTS, results)
        _track(tracker, scores, judged, config.tracking.sample_rows)
    return outputs


def _show_adapters(context: StageContext, models: dict[str, Metrics], tracker: Tracker) -> list[Path]:
    """Adds the metrics of the guardrails to those of the base that they read, and draws pictures, which it returns."""
    from trainer.evaluation.alignment import draw_alignment

    config, out = context.config, context.stage_dir
    assert config.evaluation is not None
    found, drawn = measure_guardrails(config, context.run_dir, out, config.evaluation.resamples)
    if found:
        models["base"] = models.get("base", {}) | found
    pictures = {f"guardrails/{name}": path for name, path in drawn.items()}
    if (curve := draw_alignment(models, out)) is not None:
        pictures["alignment/strengths"] = curve
    for name, path in pictures.items():
        tracker.image(name, path)
    return list(pictures.values())


def _generate(context: StageContext, rows: Sequence[Contender], items: Sequence[Item]) -> None:
    models = _Models(context)
    for weights in dict.fromkeys(c.weights for c in rows):
        tasks = [Task.of(weights, c.messages(item)) for c in rows if c.weights == weights for item in items]
        done = read_generations(context.stage_dir)
        context.barrier()  # every rank has read before any rank writes
        share = this_ranks_share(tasks, done, context.rank, context.world_size)
        if share:
            out = context.stage_dir / f"generated-rank{context.rank}.jsonl"
            with models.loaded(weights) as (model, tokenizer):
                generate_share(share, model, tokenizer, context.config.generation, out, context.is_main)
        context.barrier()


class _Models:
    """The contenders' models, one at a time on this rank's device; the base stays there for those made of it that follow."""

    def __init__(self, context: StageContext):
        self.config, self.run_dir = context.config, context.run_dir
        self._base: Any = None

    @contextmanager
    def loaded(self, weights: str) -> Iterator[tuple[Any, Any]]:
        """The model that a contender's weights are, and its tokenizer."""
        path = base_model_path(self.config, self.run_dir)
        if trained := weights in training_stages(self.config):
            path, self._base = str(self.run_dir / weights / MODEL_DIR), None  # the base makes room
        tokenizer = load_tokenizer(self.config.model, path)
        model = load_model(self.config.model, path).to(device_of_rank()) if self._base is None else self._base
        if trained:
            yield model, tokenizer
            return
        self._base = model
        with self._made_of_base(weights, path, tokenizer) as made:
            yield made, tokenizer

    @contextmanager
    def _made_of_base(self, weights: str, path: str, tokenizer: Any) -> Iterator[Any]:
        from trainer.models.fingerprint import base_fingerprint

        if weights == "base":
            yield self._base
        elif isinstance(self.config.method, DsaMethod):
            from trainer.methods.dsa.contenders import contender_of

            yield contender_of(weights, self.config.method, self.run_dir, self._base, base_fingerprint(path), tokenizer)
        else:
            from trainer.methods.safesteer.teacher import Teacher

            with Teacher.of_run(self.config, self.run_dir, base_fingerprint(path)).applied(self._base):
                yield self._base


def _judge(context: StageContext, rows: Sequence[Contender], items: list[Item]) -> list[Judged]:
    generated = read_generations(context.stage_dir)
    asked = [(c, item, generated[Task.of(c.weights, c.messages(item)).key]) for c in rows for item in items]
    judgements = judge_of(context)([item for _, item, _ in asked], [response for _, _, response in asked])
    return [Judged(c.label, item, response, j) for (c, item, response), j in zip(asked, judgements, strict=True)]


def _record(row: Judged) -> dict[str, Any]:
    judgement = row.judgement
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
        "valid": judgement is not None,
        "risks": sorted(judgement.risks) if judgement else None,
        "rating": judgement.rating if judgement else None,
        "refused": judgement.refused if judgement else None,
        "correct": judgement.correct if judgement and row.item.suite == "capability" else None,
    }


def _provenance(context: StageContext) -> dict[str, Any]:
    return {
        "git_commit": git_commit(),
        "versions": versions(),
        "seed": context.config.seed,
        "world_size": context.world_size,
        "config_fingerprint": fingerprint_of(to_mapping(context.config)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _track(tracker: Tracker, models: dict[str, Metrics], judged: Sequence[Judged], sample_rows: int) -> None:
    """Summary = the results row; a table with every model's answer to the same sample of prompts."""
    tracker.summary(
        {f"{label}/{name}": metric["value"] for label, metrics in models.items() for name, metric in metrics.items()}
    )
    if not judged:
        return
    answers: dict[str, dict[str, Judged]] = {}
    for row in judged:
        answers.setdefault(row.item.id, {})[row.label] = row
    ids = list(answers)
    chosen = ids[:: max(1, len(ids) // sample_rows)][:sample_rows] if sample_rows else []
    labels = list(dict.fromkeys(row.label for row in judged))
    tracker.table(
        "responses",
        ["prompt", "safety config", "situation", *labels],
        [
            [
                (first := answers[i][labels[0]].item).prompt,
                first.safety_config,
                first.situation,
                *(answers[i][m].response for m in labels),
            ]
            for i in chosen
        ],
    )
