"""Stage `data` of SafeGene: every set that the later stages use, drawn and written once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.data.formats.gene import GeneData, GeneSets
from trainer.data.preferences import Preference, imitated
from trainer.errors import ArtifactError
from trainer.items import Message
from trainer.methods.pairs.datasets import save_dataset
from trainer.methods.safegene import names
from trainer.pipeline.context import StageContext
from trainer.record import write_json

PROMPTS = "prompts.json"
REPORT = "report.json"

Row = tuple[list[Message], str]  # a prompt and its reply


@dataclass(frozen=True)
class Prompts:
    """Attributes: harmful, harmless: to distil on; contrast: harmful and harmless ones, to choose layers by."""

    harmful: list[str]
    harmless: list[str]
    contrast: tuple[list[str], list[str]]

    @classmethod
    def of_run(cls, run_dir: Path) -> Prompts:
        path = run_dir / "data" / PROMPTS
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def read_rows(path: Path) -> list[Row]:
    """What `_write_rows` wrote.

    Raises:
        ArtifactError: the file is damaged.
    """
    try:
        return [(row["prompt"], row["completion"]) for row in map(json.loads, path.read_text().splitlines())]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def refusals_file(run_dir: Path) -> Path:
    return run_dir / "data" / "refusals.jsonl"


def task_file(run_dir: Path, task: str) -> Path:
    """The examples of a task that it is recalibrated by."""
    return run_dir / "data" / f"task_{task}.jsonl"


def run(context: StageContext) -> list[Path]:
    """Writes a dataset for every stage of fine-tuning, and what the others read as JSON."""
    return context.together(lambda: _write(context))


def _write(context: StageContext) -> list[Path]:
    data, run_dir, out = context.config.data, context.run_dir, context.stage_dir
    assert isinstance(data, GeneData)  # checked when the config was loaded
    sets = data.read(context.config.seed)
    datasets, files = _datasets(sets), []
    for name, examples in datasets.items():
        files += save_dataset(list(map(imitated, examples)), out / name)
    sizes = {name: len(examples) for name, examples in datasets.items()}
    write_json(out / PROMPTS, asdict(Prompts(sets.harmful, sets.harmless, sets.contrast)))
    write_json(out / REPORT, {"examples": sizes})
    files += [out / PROMPTS, out / REPORT, _write_rows(refusals_file(run_dir), sets.refusals)]
    files += [_write_rows(task_file(run_dir, name), rows[: data.recalibration]) for name, rows in sets.tasks.items()]
    print(f"{context.config.run.name} · data · " + ", ".join(f"{n:,} for {stage}" for stage, n in sizes.items()), flush=True)
    return files


def _datasets(sets: GeneSets) -> dict[str, list[Preference]]:
    """What each stage of fine-tuning learns from, all that a run may have; SaLoRA's stages learn from those of the tasks."""
    found = {names.DEGRADE: sets.degrading, names.SAFETY: sets.safety}
    if sets.aligning:
        found[names.ALIGNED] = sets.aligning
    for task, rows in sets.tasks.items():
        found[names.task_stage(task)] = rows
        found[names.tuned_stage(task)] = sets.safety + rows[: len(sets.safety)]  # so that the task is not forgotten
    return found


def _write_rows(path: Path, examples: list[Preference]) -> Path:
    rows: list[dict[str, Any]] = [{"prompt": list(example.prompt), "completion": example.chosen} for example in examples]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
