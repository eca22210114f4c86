"""Stages `guardrail_<name>`: one guardrail, or one of the baselines `standalone` and `full`, trained and tried out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import set_seed

from trainer.data.labelled import Labelled
from trainer.errors import ArtifactError
from trainer.methods.dsa.artifact import save as save_adapter
from trainer.methods.dsa.batches import Collator, labels_of
from trainer.methods.dsa.examples import LABELS, Example, encode, labels_in
from trainer.methods.dsa.factory import make_guardrail
from trainer.methods.dsa.features import Features, Wanted, check_files
from trainer.methods.dsa.full_size import FullSize
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.guardrail_trainer import GuardrailTrainer
from trainer.methods.dsa.measure import calibrate
from trainer.methods.dsa.names import FULL, PROBABILITIES, STANDALONE, TRAIN, VALIDATION, guardrail_stage
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.dsa.stage_data import read_sets
from trainer.methods.dsa.standalone import Standalone
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.models.shards import whole
from trainer.pipeline.context import StageContext
from trainer.record import write_json
from trainer.training.loop import load_trained, train, training_arguments

REPORT = "report.json"


def run(context: StageContext) -> list[Path]:
    """Writes `report.json` with the threshold, `probabilities.jsonl` (what it says of every text) and, unless it is a baseline,
    the adapter."""
    config, run_dir, method = context.config, context.run_dir, context.config.method
    assert isinstance(method, DsaMethod)
    name = context.training.variant
    args = training_arguments(context, gradient_checkpointing=False)  # first: under ZeRO-3 it makes models load as shards
    args.remove_unused_columns = False
    source = context.base_model
    tokenizer = load_tokenizer(config.model, source)
    sets = read_sets(run_dir)
    rows = [(of_set, row) for of_set, of_rows in sets.items() for row in of_rows]
    examples = encode(tokenizer, [row for _, row in rows])
    training = [index for index, (of_set, _) in enumerate(rows) if of_set == TRAIN]
    labels = labels_in([examples[index] for index in training])
    targets = labels_of(examples, labels)
    if method.distill_from is not None and name in method.guardrails:
        targets = _taught(targets, read_probabilities(run_dir, guardrail_stage(method.distill_from)), labels)
    set_seed(config.seed)  # of the fresh weights
    full = name == FULL  # trains the base itself
    base = (
        load_trained(context, source) if full else load_model(config.model, source, scratch=config.launcher.scratch_directory)
    )
    model, reads = _fresh(method, name, base, labels)
    size = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters() if p.requires_grad)
    features = None
    if reads and method.feature_cache is not None:
        features = _features(context, method, name, examples, labels, base.config.get_text_config().num_hidden_layers)
    trainer = GuardrailTrainer(
        model=model,
        args=args,
        train_dataset=[{"row": index, "input_ids": examples[index].ids} for index in training],
        data_collator=Collator(examples, labels, targets, tokenizer.pad_token_id, features),
        base=base if reads and features is None else None,
    )

    del base  # where nothing reads it, its memory is free

    def save() -> list[Path]:
        shown = [index for index in range(len(rows)) if rows[index][0] != TRAIN or name == method.distill_from]
        found = context.gather(trainer.share_of_probabilities(shown, [len(example.ids) for example in examples]))
        probabilities = {row: dict(zip(labels, of_row, strict=True)) for part in found for row, of_row in part.items()}
        tau, written = write_probabilities(context, rows, labels, probabilities, size)
        return [*written, *_save(context, trainer, tau, context.together(lambda: base_fingerprint(source)))]

    return train(context, trainer, tokenizer, save)


def write_probabilities(
    context: StageContext,
    rows: Sequence[tuple[str, Labelled]],
    labels: Sequence[str],
    probabilities: Mapping[int, Mapping[str, float]],
    trained_parameters: int,
) -> tuple[float, list[Path]]:
    """Sets the threshold tau by the validation rows; rank 0 writes `probabilities.jsonl` and `report.json`.

    Args:
        rows: all texts, with the set that each is in.
        labels: those that the guardrail predicts; tau is of the first.
        probabilities: number of a row -> label -> p(unsafe); the same on every rank. Rows that are not there are not written.

    Returns:
        tau and, on rank 0, the files.
    """
    config, method = context.config, context.config.method
    assert isinstance(method, DsaMethod)
    lines = [_line(index, *rows[index], probabilities[index]) for index in sorted(probabilities)]
    tau = _threshold(lines, labels[0], method.false_positive_rate)
    if not context.is_main:
        return tau, []
    path, report = context.stage_dir / PROBABILITIES, context.stage_dir / REPORT
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(report, {"labels": labels, "tau": tau, "trained_parameters": trained_parameters})
    print(f"{config.run.name} · {context.stage.name} · {trained_parameters:,} trained parameters, tau {tau:.3g}", flush=True)
    return tau, [path, report]


def known_labels(row: Labelled) -> dict[str, int]:
    """The labels that a text has, by name."""
    return {name: label for name in LABELS if (label := getattr(row, f"{name}_label")) is not None}


def read_probabilities(run_dir: Path, stage: str) -> list[dict[str, Any]]:
    """What a guardrail said: rows with `row` (number of the text), `set`, `labels` (those known, by name) and `p` (the
    probability of unsafe, by label: of those known at least).

    Raises:
        ArtifactError: the stage's file is damaged.
    """
    path = run_dir / stage / PROBABILITIES
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def _fresh(method: DsaMethod, name: str, base: Any, labels: Sequence[str]) -> tuple[nn.Module, bool]:
    """The untrained guardrail, and whether it reads the hidden states of the base."""
    config, text = method.adapter_of(name), base.config.get_text_config()
    if name == FULL:
        if torch.cuda.is_available():
            base.gradient_checkpointing_enable()
        return FullSize(base, labels), False
    if name == STANDALONE:
        sizes = (text.hidden_size, text.num_hidden_layers, text.vocab_size)
        return Standalone(config, *sizes, causal=True, labels=labels), False
    return make_guardrail(config, base, labels).float(), True  # bfloat16 weights would lose small updates


def _features(
    context: StageContext, method: DsaMethod, name: str, examples: Sequence[Example], labels: tuple[str, ...], layers: int
) -> Features:
    wanted, directory = Wanted.by(list(method.guardrails.values()), layers, labels), context.run_dir / "features"
    context.together(lambda: check_files(directory, json.loads((directory / REPORT).read_text())["files"]))
    return Features(directory, examples, wanted, method.adapter_of(name), layers)


def _taught(targets: Tensor, said: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Tensor:
    """The targets (N, K), with a teacher's probabilities where labels of training rows are known."""
    for line in said:
        for place, label in enumerate(labels):
            if line["set"] == TRAIN and label in line["labels"]:
                targets[line["row"], place] = line["p"][label]
    return targets


def _line(index: int, of_set: str, row: Labelled, p: Mapping[str, float]) -> dict[str, Any]:
    return {"row": index, "set": of_set, "labels": known_labels(row), "p": p}


def _threshold(lines: Sequence[Mapping[str, Any]], label: str, rate: float) -> float:
    """tau, from the validation rows whose label is benign; `label` is `prompt` where prompts have labels at all."""
    benign = [line["p"][label] for line in lines if line["set"] == VALIDATION and line["labels"].get(label) == 0]
    return calibrate(benign, rate)


def _save(context: StageContext, trainer: Any, tau: float, fingerprint: str) -> list[Path]:
    """The adapter, whole, bound to its base; nothing of a baseline, which is only compared with."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not isinstance(model, Guardrail):
        return []
    model.tau = tau
    with whole(model.parameters()):
        return save_adapter(model, context.stage_dir, fingerprint) if context.is_main else []
