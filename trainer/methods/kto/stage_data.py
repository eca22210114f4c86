"""Stage `data`: unpaired replies, checked, shuffled and written for KTO."""

from __future__ import annotations

import json
import random
from pathlib import Path

from trainer.config.run import RunConfig
from trainer.data.formats.replies import UnpairedData
from trainer.data.formats.rows import ALL
from trainer.data.replies import kto_examples
from trainer.methods.pairs.datasets import both_sides, save_dataset, short_enough, that_differ
from trainer.methods.pairs.lengths import cuts, max_prompt_tokens
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import base_model_path
from trainer.record import write_json
from trainer.training.examples import validation_dir

REPORT = "report.json"
REPLIES = "replies.jsonl"
DATASET = "kto"


def run(context: StageContext) -> list[Path]:
    """Writes `replies.jsonl` (to read), `kto/` (what the trainer maps) and `report.json` (what was left out)."""
    return context.together(lambda: _write(context.config, context.run_dir, context.stage_dir))


def _write(config: RunConfig, run_dir: Path, out: Path) -> list[Path]:
    data = config.data
    assert isinstance(data, UnpairedData)  # checked when the config was loaded
    found = data.read(config.seed)
    tokenizer = load_tokenizer(config.model, base_model_path(config, run_dir))
    longest = max_prompt_tokens(config, data, ("kto",))
    found.replies, held = both_sides(
        data, found, lambda rows: short_enough(rows, tokenizer, longest, data.overlong), config.seed
    )
    found.require_both_sides()
    # TRL's KTO takes examples in the order in which they stand, and estimates its KL term from neighbours.
    for side in (found.replies, held):
        random.Random(f"kto-{config.seed}").shuffle(side)
    rows = list(kto_examples(found.replies))
    (out / REPLIES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = save_dataset(rows, out / DATASET)
    if held:
        dataset += save_dataset(list(kto_examples(held)), validation_dir(out / DATASET) / ALL)
    cut = cuts(config, ("kto",)).get("kto")
    shortened = 0 if cut is None else that_differ(rows, tokenizer, cut)[1]
    sides = {"desirable": found.desirable, "undesirable": len(rows) - found.desirable}
    left_out = dict(found.dropped)
    write_json(
        out / REPORT,
        {"rows": found.rows, **sides, "validation": len(held), "left_out": left_out, "responses_cut": shortened},
    )
    told = f"; held out {len(held):,}" if held else ""
    told += "".join(f"; left out {count} ({reason})" for reason, count in left_out.items())
    told += "" if cut is None else cut.told("kto", shortened)
    counted = ", ".join(f"{count:,} {side}" for side, count in sides.items())
    print(f"{config.run.name} · {out.name} · {found.rows:,} rows -> {counted}{told}", flush=True)
    return [out / REPLIES, out / REPORT, *dataset]
