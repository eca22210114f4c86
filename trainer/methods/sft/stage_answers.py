"""Stage `answers`: the base answers the instructions of `method.rehearsal`, every rank its share."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from trainer.evaluation.generate import complete
from trainer.methods.pairs.lengths import cuts
from trainer.methods.pairs.rehearsal import ANSWERS_FILE
from trainer.methods.sft.section import SftMethod
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext

_STRIPPED = 8  # tokens, at most, that an answer loses with the spaces around it


def run(context: StageContext) -> list[Path]:
    context.connect()
    config = context.config
    assert isinstance(config.method, SftMethod) and config.method.rehearsal is not None  # else there is no such stage
    rehearsal = config.method.rehearsal
    instructions = context.together(lambda: rehearsal.read(config.seed))
    answers: dict[str, str] = {}
    for of_rank in context.gather(_answers(context, instructions[context.rank :: context.world_size])):
        answers |= of_rank
    if not context.is_main:
        return []
    out = context.stage_dir / ANSWERS_FILE
    with out.open("w") as file:
        for text in instructions:
            file.write(json.dumps({"prompt": text, "response": answers[text]}) + "\n")
    print(f"{config.run.name} · answers · {len(answers):,} ordinary instructions, answered by the base", flush=True)
    return [out]


def _answers(context: StageContext, instructions: list[str]) -> dict[str, str]:
    """Instruction -> the base's answer. One without an end is so long that SFT cuts it, and does not learn that it ends."""
    if not instructions:
        return {}
    config, path = context.config, context.base_model
    tokenizer = load_tokenizer(config.model, path)
    model = load_model(config.model, path).to(device_of_rank())
    chats = [[{"role": "user", "content": text}] for text in instructions]
    prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True)["input_ids"]
    room = max(0, cuts(config)["sft"].max_length - min(map(len, prompts))) + _STRIPPED
    answers: dict[str, str] = {}
    with tqdm(total=len(chats), desc="answers of the base", unit="answer", disable=not context.is_main) as bar:
        for batch in complete(chats, model, tokenizer, room, config.generation.batch_size):
            answers |= {instructions[index]: text for index, text in batch}
            bar.update(len(batch))
    return answers
