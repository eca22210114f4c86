"""Stage `data` of SafeSteer: disjoint samples of harmful and harmless instructions, drawn once for all later stages."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from trainer.config.run import RunConfig
from trainer.data.formats.instructions import InstructionData
from trainer.data.instructions import draw
from trainer.errors import ArtifactError, DataError
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext
from trainer.pipeline.places import base_model_path
from trainer.record import write_json

PROMPTS = "prompts.json"


@dataclass(frozen=True)
class PromptSets:
    """Instructions: `harmful` and `harmless` to find the direction with, `validation_*` to choose it by, and the harmful
    ones to train on."""

    harmful: list[str]
    harmless: list[str]
    validation_harmful: list[str]
    validation_harmless: list[str]
    training: list[str]

    @classmethod
    def of_run(cls, run_dir: Path) -> PromptSets:
        path = run_dir / "data" / PROMPTS
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); delete {path.parent} to redo the stage.") from error


def run(context: StageContext) -> list[Path]:
    """Writes `prompts.json`."""
    return context.together(lambda: _write(context.config, context.run_dir, context.stage_dir))


def _write(config: RunConfig, run_dir: Path, out: Path) -> list[Path]:
    data = config.data
    assert isinstance(data, InstructionData)  # checked when the config was loaded
    tokenizer = load_tokenizer(config.model, base_model_path(config, run_dir))
    harmful, harmless, prompts = data.read(config.seed)
    kept = {name: _short_enough(found, tokenizer, data.max_prompt_length) for name, found in
            (("harmful", harmful), ("harmless", harmless), ("prompts", prompts)) if found is not None}  # fmt: skip
    sizes = [data.direction, data.validation]
    harmful_sets = _drawn("harmful", kept["harmful"], sizes if "prompts" in kept else [*sizes, data.limit], config.seed)
    harmless_sets = _drawn("harmless", kept["harmless"], sizes, config.seed)
    if "prompts" in kept:
        used = {*harmful_sets[0], *harmful_sets[1]}
        training = _drawn("prompts", [p for p in kept["prompts"] if p not in used], [data.limit], config.seed)[0]
    else:
        training = harmful_sets[2]
    sets = PromptSets(harmful_sets[0], harmless_sets[0], harmful_sets[1], harmless_sets[1], training)
    write_json(out / PROMPTS, asdict(sets))
    left_out = sum(len(found) for found in (harmful, harmless, prompts or [])) - sum(map(len, kept.values()))
    dropped = f"; left out {left_out} longer than {data.max_prompt_length} tokens" if left_out else ""
    print(
        f"{config.run.name} · data · {data.direction} + {data.direction} instructions for the direction, "
        f"{data.validation} + {data.validation} to choose it by, {data.limit} harmful ones to train on{dropped}",
        flush=True,
    )
    return [out / PROMPTS]


def _drawn(name: str, instructions: list[str], sizes: list[int], seed: int) -> list[list[str]]:
    try:
        return draw(instructions, sizes, seed)
    except DataError as error:
        raise DataError(f"data.{name}: {error} The sizes are data.direction, data.validation and data.limit.") from error


def _short_enough(instructions: list[str], tokenizer: Any, most: int) -> list[str]:
    """Those whose chat has at most so many tokens: a prompt without its end would be another prompt."""
    try:
        chats = [[{"role": "user", "content": text}] for text in instructions]
        ids = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True)["input_ids"]
    except (TemplateError, ValueError) as error:
        raise DataError(f"data: the tokenizer's chat template refuses a prompt of one user turn: {error}") from error
    return [text for text, tokens in zip(instructions, ids, strict=True) if len(tokens) <= most]
