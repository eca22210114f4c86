"""What stands in responses.jsonl and in results.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from trainer.config.run import RunConfig, to_mapping
from trainer.cosa.score import cosa_value, keeps_to_config
from trainer.evaluation.agreement import agreements
from trainer.evaluation.judging import Readings
from trainer.evaluation.kept import inputs_of_stage
from trainer.evaluation.metrics import Judged, Metrics, compare
from trainer.pipeline.context import StageContext
from trainer.record import fingerprint_of, git_commit, versions


def record_of(row: Judged, others: Mapping[str, Judged]) -> dict[str, Any]:
    """A line of responses.jsonl. others: judge -> what it says, of those besides the main one."""
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


def scores_of(config: RunConfig, read: Readings) -> dict[str, Metrics]:
    """The numbers of one judge; each with the judge's AUC, where that is known."""
    assert config.evaluation is not None
    scores = compare(read.rows, config.evaluation.resamples, config.seed)
    if "auc" in read.facts:
        for metric in (metric for metrics in scores.values() for metric in metrics.values()):
            metric["judge_auc"] = read.facts["auc"]["value"]
    return scores


def of_judges(config: RunConfig, found: Mapping[str, Readings]) -> dict[str, Any]:
    """What stands beside the numbers of the main judge; the numbers of the others, and how far each two agree. Empty where
    nothing was judged."""
    assert config.evaluation is not None
    if not found:
        return {}
    judges: dict[str, dict[str, Any]] = {name: {"facts": one.facts} for name, one in found.items()}
    for name in list(found)[1:]:
        judges[name]["models"] = scores_of(config, found[name])
    rows = {name: one.rows for name, one in found.items()}
    return {"judges": judges, "agreement": agreements(rows, config.evaluation.resamples, config.seed)}


def provenance_of(context: StageContext) -> dict[str, Any]:
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
        "config_fingerprint": fingerprint_of(sections),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
