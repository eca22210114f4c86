"""Stage `data` (`pairs` beside labelled texts): preference pairs, checked and written for SFT and DPO."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from trainer.config.run import RunConfig
from trainer.data.formats.pairs import DemonstrationData
from trainer.data.preferences import Preferences, dpo_examples, sft_examples
from trainer.errors import DataError
from trainer.methods.pairs.datasets import save_dataset, short_enough, that_differ
from trainer.methods.pairs.lengths import cuts, max_prompt_tokens
from trainer.methods.pairs.rehearsal import ANSWERS, read_answers
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import base_model_path
from trainer.record import write_json

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
    """Writes `pairs.jsonl` (to read), `sft/` and `dpo/` (what the trainers map) and `report.json` (what was left out)."""
    return context.together(lambda: _write(context))


def _write(context: StageContext) -> list[Path]:
    config, run_dir, out = context.config, context.run_dir, context.stage_dir
    data = preferences_of(config)
    preferences = _read(data, config.seed)
    if ANSWERS in context.stage.after:
        preferences.extend(read_answers(run_dir))
    tokenizer = load_tokenizer(config.model, base_model_path(config, run_dir))
    kept = short_enough(preferences.pairs, tokenizer, max_prompt_tokens(config, data), data.overlong)
    if overlong := len(preferences.pairs) - len(kept):
        preferences.dropped["prompt too long"] += overlong
        preferences.pairs = kept
    if not preferences.pairs:
        raise DataError(f"data: no usable pair among {preferences.rows} rows; left out: {dict(preferences.dropped)}.")
    with (out / "pairs.jsonl").open("w") as file:
        for pair in preferences.pairs:
            file.write(json.dumps({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}) + "\n")
    sizes, shortened, limits = {}, {}, cuts(config)
    written = [out / "pairs.jsonl", out / REPORT]
    for trainer in _trainers(config):
        rows = list(sft_examples(preferences.pairs) if trainer == "sft" else dpo_examples(preferences.pairs))
        if (cut := limits.get(trainer)) is not None:
            differ, shortened[trainer] = that_differ(rows, tokenizer, cut)
            if equal := len(rows) - len(differ):
                preferences.dropped[f"equal after the cut to {cut.max_length} tokens"] += equal
            if not differ:
                raise DataError(f"data: no pair differs in what {trainer}.max_length={cut.max_length} leaves of it; raise it.")
            rows = differ
        sizes[trainer] = len(rows)
        written += save_dataset(rows, out / trainer)
    report = {
        "rows": preferences.rows,
        "pairs": len(preferences.pairs),
        "examples": sizes,
        "left_out": dict(preferences.dropped),
        "responses_cut": shortened,
    }
    write_json(out / REPORT, report)
    left_out = "".join(f"; left out {count} ({reason})" for reason, count in preferences.dropped.items())
    left_out += "".join(limits[trainer].told(trainer, count) for trainer, count in shortened.items())
    examples = ", ".join(f"{size:,} for {trainer.upper()}" for trainer, size in sizes.items())
    print(f"{config.run.name} · {out.name} · {preferences.rows:,} rows -> {examples}{left_out}", flush=True)
    return written


def _read(data: DemonstrationData, seed: int) -> Preferences:
    """The pairs; those that are made, not read, behind a progress bar."""
    if not data.makes_its_own:
        return data.read(seed)
    with tqdm(total=getattr(data, "prompts", None), desc="synthesising pairs", unit="prompt") as bar:
        return data.read(seed, bar.update)
