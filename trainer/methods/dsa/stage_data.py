"""Stage `data` of DSA: labelled texts to train on, to set thresholds by, and to test on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from trainer.config.run import RunConfig
from trainer.data.formats.labels import LabelledData
from trainer.data.labelled import Labelled, split
from trainer.errors import ArtifactError, DataError
from trainer.methods.dsa.examples import LABELS, encode
from trainer.methods.dsa.names import TRAIN, VALIDATION
from trainer.methods.dsa.section import DsaMethod
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import base_model_path
from trainer.record import write_json

LABELLED, REPORT = "labelled.jsonl", "report.json"


def read_sets(run_dir: Path) -> dict[str, list[Labelled]]:
    """Name of a set -> its rows: train, validation, and the test sets.

    Raises:
        ArtifactError: the stage's file is damaged.
    """
    path = run_dir / "data" / LABELLED
    sets: dict[str, list[Labelled]] = {}
    try:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            sets.setdefault(row.pop("set"), []).append(Labelled(**row))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error
    return sets


def run(context: StageContext) -> list[Path]:
    """Writes `labelled.jsonl` and `report.json` (how many rows of each label each set has)."""
    return context.together(lambda: _write(context.config, context.run_dir, context.stage_dir))


def _write(config: RunConfig, run_dir: Path, out: Path) -> list[Path]:
    data = config.data
    assert isinstance(data, LabelledData)  # checked when the config was loaded
    tokenizer = load_tokenizer(config.model, base_model_path(config, run_dir))
    left_out: Counter[str] = Counter()

    def short_enough(rows: Sequence[Labelled]) -> list[Labelled]:
        examples = encode(tokenizer, rows)
        kept = [row for row, example in zip(rows, examples, strict=True) if len(example.ids) <= data.max_length]
        left_out[f"longer than {data.max_length} tokens"] += len(rows) - len(kept)
        return kept

    rows, tests = data.read(config.seed)
    tests = {name: short_enough(of_set) for name, of_set in tests.items()}
    tested = {row.prompt for of_set in tests.values() for row in of_set}
    unseen = [row for row in rows if row.prompt not in tested]
    left_out["prompt in a test set"] = len(rows) - len(unseen)
    sets = dict(zip((TRAIN, VALIDATION), _split(short_enough(unseen), data, config.seed), strict=True)) | tests
    counts = {name: _counts(of_set) for name, of_set in sets.items()}
    _check(counts)
    if isinstance(config.method, DsaMethod) and config.method.targeted is not None and "prompt" not in counts[TRAIN]:
        raise DataError(
            "method.targeted: a guardrail judges prompts there, and no training row has a label of its prompt; set it to null."
        )
    with (out / LABELLED).open("w") as file:
        for name, of_set in sets.items():
            for row in of_set:
                file.write(json.dumps({"set": name, **asdict(row)}) + "\n")
    write_json(out / REPORT, {"sets": counts, "left_out": dict(left_out)})
    dropped = "".join(f"; left out {count:,} ({reason})" for reason, count in left_out.items() if count)
    sizes = ", ".join(f"{len(of_set):,} {name}" for name, of_set in sets.items())
    print(f"{config.run.name} · data · {sizes}{dropped}", flush=True)
    return [out / LABELLED, out / REPORT]


def _split(rows: Sequence[Labelled], data: LabelledData, seed: int) -> list[list[Labelled]]:
    try:
        return split(rows, [data.train, data.validation], seed)
    except DataError as error:
        raise DataError(f"data: {error} The sizes are data.train and data.validation.") from error


def _counts(rows: Sequence[Labelled]) -> dict[str, dict[str, int]]:
    """Label -> how many rows are unsafe and safe; only labels that a row has."""
    known = {name: [getattr(row, f"{name}_label") for row in rows] for name in LABELS}
    counts = {name: {"unsafe": labels.count(1), "safe": labels.count(0)} for name, labels in known.items()}
    return {name: of_label for name, of_label in counts.items() if any(of_label.values())}


def _check(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """
    Raises:
        DataError: a set has rows of one class only, or a label that is not trained.
    """
    for name, of_set in counts.items():
        for label, of_label in of_set.items():
            if not all(of_label.values()):
                missing = "unsafe" if of_label["safe"] else "safe"
                raise DataError(f"data: no {label} of the {name} set is {missing}; give rows of both classes, or more rows.")
        if untrained := sorted(of_set.keys() - counts[TRAIN].keys()):
            raise DataError(
                f"data: the {name} set has labels of each {untrained[0]}, and the training rows have none; leave them out."
            )
    if untested := sorted(counts[TRAIN].keys() - counts[VALIDATION].keys()):
        raise DataError(f"data: no validation row has a label of its {untested[0]}; raise data.validation.")
