"""Stage `data` (`pairs` beside labelled texts): preference pairs, checked and written for SFT and DPO."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.config.check import SANDBOX
from trainer.config.schema import DsaMethod, LabelledData, PreferenceData, RunConfig
from trainer.config.trl_fields import section_of, stage_fields, training_stages
from trainer.data.preferences import Preference, Preferences, dpo_examples, read_preferences, sft_examples
from trainer.errors import DataError
from trainer.models.load import base_model_path, load_tokenizer
from trainer.stages.context import StageContext
from trainer.stages.manifest import write_json

PAIRS = "pairs"  # the stage of a method whose `data` is something else
REPORT = "report.json"
DEFAULT_MAX_LENGTH = 1024  # TRL's own, for both trainers


def preferences_of(config: RunConfig) -> PreferenceData:
    """The section that says where the pairs come from: the run's data, or a part of it beside labelled texts."""
    data = config.data.preferences if isinstance(config.data, LabelledData) else config.data
    assert isinstance(data, PreferenceData)  # checked when the config was loaded
    return data


def examples_dir(config: RunConfig, run_dir: Path, trainer: str) -> Path:
    """The dataset for a trainer, `sft` or `dpo`."""
    return run_dir / (PAIRS if isinstance(config.method, DsaMethod) else "data") / trainer


def _trainers(config: RunConfig) -> dict[str, str]:
    """The trainers that use the pairs -> a stage of each."""
    return {section: stage for stage in training_stages(config) if (section := section_of(stage)) in ("sft", "dpo")}


def run(context: StageContext) -> list[Path]:
    """Writes `pairs.jsonl` (to read), `sft/` and `dpo/` (what the trainers map) and `report.json` (what was left out)."""
    return context.together(lambda: _write(context.config, context.run_dir, context.stage_dir))


def _write(config: RunConfig, run_dir: Path, out: Path) -> list[Path]:
    data = preferences_of(config)
    preferences = _sandbox_preferences(data, config.seed) if data.format.startswith(SANDBOX) else read_preferences(data)
    tokenizer = load_tokenizer(config.model, base_model_path(config, run_dir))
    _check_lengths(preferences, tokenizer, max_prompt_tokens(config), data.overlong)
    if not preferences.pairs:
        raise DataError(f"data: no usable pair among {preferences.rows} rows; left out: {dict(preferences.dropped)}.")
    with (out / "pairs.jsonl").open("w") as file:
        for pair in preferences.pairs:
            file.write(json.dumps({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}) + "\n")
    sizes = {}
    for trainer in _trainers(config):
        rows = list(sft_examples(preferences.pairs) if trainer == "sft" else dpo_examples(preferences.pairs))
        sizes[trainer] = len(rows)
        _save_dataset(rows, out / trainer)
    report = {
        "rows": preferences.rows,
        "pairs": len(preferences.pairs),
        "examples": sizes,
        "left_out": dict(preferences.dropped),
    }
    write_json(out / REPORT, report)
    left_out = "".join(f"; left out {count} ({reason})" for reason, count in preferences.dropped.items())
    examples = ", ".join(f"{size:,} for {trainer.upper()}" for trainer, size in sizes.items())
    print(f"{config.run.name} · {out.name} · {preferences.rows:,} rows -> {examples}{left_out}", flush=True)
    return [out / "pairs.jsonl", out / REPORT]


def _sandbox_preferences(data: PreferenceData, seed: int) -> Preferences:
    from tqdm import tqdm

    from trainer.sandbox.preferences import sandbox_preferences

    with tqdm(total=data.prompts, desc="synthesising pairs", unit="prompt") as bar:
        return sandbox_preferences(data, seed, bar.update)


def max_prompt_tokens(config: RunConfig) -> int:
    """The longest prompt to train on: what the user set, and room for one response token in every training stage."""
    lengths = [stage_fields(config, stage).get("max_length", DEFAULT_MAX_LENGTH) for stage in _trainers(config).values()]
    room = min((length for length in lengths if length is not None), default=1 << 30) - 1
    return min(room, preferences_of(config).max_prompt_length or room)


def _check_lengths(preferences: Preferences, tokenizer: Any, limit: int, overlong_rows: str) -> None:
    """Drop or refuse prompts that would be cut: a prompt without its end is another prompt.

    Raises:
        DataError: such prompts exist and `data.overlong` is `error`, or the chat template refuses a prompt.
    """
    kept: list[Preference] = []
    overlong: list[str] = []
    for pair, length in zip(preferences.pairs, _prompt_lengths(preferences.pairs, tokenizer), strict=True):
        if length > limit:
            overlong.append(f"{pair.where}: {length}")
        else:
            kept.append(pair)
    if overlong and overlong_rows == "error":
        shown = "; ".join(overlong[:3])
        raise DataError(
            f"data: {len(overlong)} of {len(preferences.pairs)} prompts are longer than {limit} tokens ({shown}). Raise "
            "max_length (or data.max_prompt_length, if set), or leave such rows out with data.overlong=drop."
        )
    if overlong:
        preferences.dropped["prompt too long"] += len(overlong)
        preferences.pairs = kept


def _prompt_lengths(pairs: Iterable[Preference], tokenizer: Any) -> Iterable[int]:
    from jinja2.exceptions import TemplateError

    for pair in pairs:
        try:
            ids = tokenizer.apply_chat_template(list(pair.prompt), add_generation_prompt=True, return_dict=True)["input_ids"]
        except (TemplateError, ValueError) as error:
            raise DataError(
                f"data: {pair.where}: the tokenizer's chat template refuses this conversation: {error} "
                f"(roles: {', '.join(m['role'] for m in pair.prompt)})."
            ) from error
        yield len(ids)


def _save_dataset(rows: list[dict[str, Any]], out: Path) -> None:
    from datasets import Dataset

    shutil.rmtree(out, ignore_errors=True)
    Dataset.from_list(rows).save_to_disk(str(out))
