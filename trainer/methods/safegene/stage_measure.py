"""Stage `measure`: what the aligned model answers, which the gene is distilled from, and how far the degraded one has
fallen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from trainer.config.run import RunConfig
from trainer.data.formats.gene import GeneData
from trainer.errors import ArtifactError, StageFailed
from trainer.evaluation.generate import answers_to, by_model
from trainer.evaluation.judging import judge_of
from trainer.evaluation.kept import Kept
from trainer.items import Item, Judgement, Message, Verdict
from trainer.methods.safegene.names import DEGRADE, MEASURE
from trainer.methods.safegene.section import SafeGeneMethod
from trainer.methods.safegene.stage_data import Prompts, Row
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import MODEL_DIR, base_model_path
from trainer.record import write_json
from trainer.tracking.tracker import Tracker

ANSWERS, REPORT = "answers.jsonl", "report.json"
_LEAST_UNDERSTOOD = 0.9  # share of judgements that can be read, for a measurement


def aligned_path(config: RunConfig, run_dir: Path) -> str:
    """Where the aligned model is."""
    method = config.method
    assert isinstance(method, SafeGeneMethod)
    stage = method.aligned_stage(config)
    return base_model_path(config, run_dir) if stage is None else str(run_dir / stage / MODEL_DIR)


def degraded_path(run_dir: Path) -> Path:
    return run_dir / DEGRADE / MODEL_DIR


def read_answers(run_dir: Path) -> list[Row]:
    """The prompts that a gene is distilled on, with the aligned model's answers.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = run_dir / MEASURE / ANSWERS
    try:
        return [(_chat(row["prompt"]), row["reply"]) for row in map(json.loads, path.read_text().splitlines())]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def read_measured(run_dir: Path) -> dict[str, Any]:
    """Attack success, and capability where there are such probes, of `aligned` and `degraded`."""
    path = run_dir / MEASURE / REPORT
    try:
        report: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error
    return report


def _chat(prompt: str) -> list[Message]:
    return [{"role": "user", "content": prompt}]


def run(context: StageContext) -> list[Path]:
    """
    Raises:
        StageFailed: the degradation is outside `method.degrade.band`, or too much capability is lost.
    """
    context.connect()
    config, run_dir, data, method = context.config, context.run_dir, context.config.data, context.config.method
    assert isinstance(data, GeneData) and isinstance(method, SafeGeneMethod)  # checked when the config was loaded
    prompts = Prompts.of_run(run_dir)
    probes = context.together(lambda: data.read(config.seed).probes)
    distilled, probed = [*prompts.harmful, *prompts.harmless], [item.prompt for item in probes]
    aligned = _said(context, "aligned", aligned_path(config, run_dir), [*distilled, *probed])
    degraded = _said(context, "degraded", str(degraded_path(run_dir)), probed)
    judge = judge_of(config.judge, "judge", context)
    replies = {"aligned": aligned[len(distilled) :], "degraded": degraded}
    verdicts = {who: judge(probes, of_probes) for who, of_probes in replies.items()}
    context.together(lambda: _report(context, probes, verdicts))
    if not context.is_main:
        return []
    rows = [{"prompt": prompt, "reply": reply} for prompt, reply in zip(distilled, aligned, strict=False)]
    (context.stage_dir / ANSWERS).write_text("".join(json.dumps(row) + "\n" for row in rows if row["reply"]))
    return [context.stage_dir / ANSWERS, context.stage_dir / REPORT]


def _said(context: StageContext, who: str, path: str, prompts: Sequence[str]) -> list[str]:
    """The replies of the model at a path; on all ranks together."""
    settings, kept = context.config.generation, Kept(context.stage_dir / "answers" / who)
    answering = by_model(partial(_loaded, context.config, path), settings.max_new_tokens, settings.batch_size)
    chats = [_chat(prompt) for prompt in prompts]
    return answers_to(context, chats, kept, answering, settings.max_new_tokens, f"generating ({who})")


@contextmanager
def _loaded(config: RunConfig, path: str) -> Iterator[tuple[Any, Any]]:
    """A model, and its tokenizer; gone before the next one is loaded."""
    yield load_model(config.model, path).to(device_of_rank()), load_tokenizer(config.model, path)


def _report(context: StageContext, probes: list[Item], verdicts: Mapping[str, list[Verdict]]) -> None:
    """Writes the report, prints it, and refuses what is outside the band."""
    config, method = context.config, context.config.method
    assert isinstance(method, SafeGeneMethod)
    report = {who: _shares(probes, [verdict.judgement for verdict in of_model]) for who, of_model in verdicts.items()}
    write_json(context.stage_dir / REPORT, report)
    with Tracker.open(context) as tracker:
        tracker.summary({f"{who}/{name}": value for who, shares in report.items() for name, value in shares.items()})
    shown = "; ".join(
        f"{name} {report['aligned'][name]:.0%} -> {report['degraded'][name]:.0%}" for name in report["aligned"] if name != "n"
    )
    print(f"{config.run.name} · measure · aligned -> degraded: {shown}", flush=True)
    if problem := refused(report, method.degrade.band, method.degrade.max_loss):
        raise StageFailed(problem)


def _shares(probes: list[Item], judgements: list[Judgement | None]) -> dict[str, float]:
    understood = [(item, judgement) for item, judgement in zip(probes, judgements, strict=True) if judgement is not None]
    if len(understood) < _LEAST_UNDERSTOOD * len(probes):
        raise StageFailed(
            f"measure: the judge's replies to {len(probes) - len(understood)} of {len(probes)} probes cannot be read."
        )
    attacked = [bool(judgement.risks) for item, judgement in understood if item.suite == "attack"]
    right = [j.correct for item, j in understood if item.suite == "capability" and j.correct is not None]
    found = {"n": float(len(understood)), "attack success": sum(attacked) / len(attacked)}
    return found | ({"capability": sum(right) / len(right)} if right else {})


def refused(report: dict[str, dict[str, float]], band: tuple[float, float], max_loss: float) -> str:
    """Why a degradation will not do; empty where it will."""
    rise = report["degraded"]["attack success"] - report["aligned"]["attack success"]
    loss = report["aligned"].get("capability", 0.0) - report["degraded"].get("capability", 0.0)
    if not band[0] <= rise <= band[1]:
        how = "Raise" if rise < band[0] else "Lower"
        return (
            f"degrade: attack success rose by {100 * rise:.0f} points, and method.degrade.band asks for {100 * band[0]:.0f} to "
            f"{100 * band[1]:.0f}. {how} method.degrade.learning_rate or data.compliant (or num_train_epochs)."
        )
    if loss > max_loss:
        return (
            f"degrade: capability fell by {100 * loss:.1f} points, more than method.degrade.max_loss={max_loss}. Lower "
            "method.degrade.learning_rate, or raise data.degrading."
        )
    return ""
