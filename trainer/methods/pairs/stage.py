"""Stage `data` (`pairs` beside labelled texts): preference pairs, checked and written for SFT and DPO."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from tqdm import tqdm

from trainer.config.run import RunConfig
from trainer.data.formats.pairs import DemonstrationData
from trainer.data.preferences import Preference, Preferences
from trainer.errors import DataError
from trainer.methods.pairs.datasets import both_sides, save_dataset, short_enough
from trainer.methods.pairs.examples import Report, examples_of
from trainer.methods.pairs.lengths import cuts, max_prompt_tokens
from trainer.methods.pairs.rehearsal import ANSWERS, read_answers
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import base_model_path
from trainer.record import write_json
from trainer.training.examples import validation_dir

PAIRS = "pairs"  # the stage of a method whose `data` is something else
REPORT = "report.json"


def preferences_of(config: RunConfig) -> DemonstrationData:
    """The section that says where the pairs come from: the run's data, or a part of it beside labelled texts."""
    pairs = getattr(config.data, "preferences", config.data)
    assert isinstance(pairs, DemonstrationData)  # checked when the config was loaded
    return pairs


def examples_dir(context: StageContext, trainer: str) -> Path:
    """The dataset for a trainer, `sft` or `dpo`, that a stage before this one left."""
    before = PAIRS if PAIRS in context.stage.after else "data"
    return context.run_dir / before / trainer


def _trainers(config: RunConfig) -> tuple[str, ...]:
    """The trainers that use the pairs."""
    return tuple(dict.fromkeys(one.section for one in config.training if one.section in ("sft", "dpo")))


def run(context: StageContext) -> list[Path]:
    """Writes `pairs.jsonl` (to read), `sft/` and `dpo/` (what the trainers map), beside each the rows that are held out, and
    `report.json` (what was left out, and what a mixture has of each part)."""
    return context.together(lambda: _write(context))


def _write(context: StageContext) -> list[Path]:
    config, run_dir, out = context.config, context.run_dir, context.stage_dir
    data = preferences_of(config)
    found = _read(data, config.seed)
    if ANSWERS in context.stage.after:
        found.extend(read_answers(run_dir))
    tokenizer = load_tokenizer(config.model, base_model_path(config, run_dir))
    limit = max_prompt_tokens(config, data)

    def short(pairs: list[Preference]) -> list[Preference]:
        return short_enough(pairs, tokenizer, limit, data.overlong)

    train, validation = both_sides(data, found, short, config.seed)
    if not train:
        raise DataError(f"data: no usable pair among {found.rows} rows; left out: {dict(found.dropped)}.")
    with (out / "pairs.jsonl").open("w") as file:
        for pair in train:
            file.write(json.dumps({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}) + "\n")
    report, limits = Report(found.rows, len(train), found.dropped), cuts(config)
    written = [out / "pairs.jsonl", out / REPORT]
    for trainer in _trainers(config):
        by_part = partial(examples_of, trainer, data, tokenizer, limits.get(trainer), report)
        examples = by_part(train)
        rows = data.epoch(examples, config.seed)
        written += save_dataset(rows, out / trainer)
        report.examples[trainer] = len(rows)
        if told := data.told({part: len(of_part) for part, of_part in examples.items()}):
            report.mixture[trainer] = told
        for part, of_part in (by_part(validation) if validation else {}).items():
            written += save_dataset(of_part, validation_dir(out / trainer) / part)
            report.validation.setdefault(trainer, {})[part] = len(of_part)
    write_json(out / REPORT, vars(report))
    print(f"{config.run.name} · {out.name} · {report.line(limits)}", flush=True)
    return written


def _read(data: DemonstrationData, seed: int) -> Preferences:
    """The pairs; those that are made, not read, behind a progress bar."""
    if not data.makes_its_own:
        return data.read(seed)
    with tqdm(total=getattr(data, "prompts", None), desc="synthesising pairs", unit="prompt") as bar:
        return data.read(seed, bar.update)
