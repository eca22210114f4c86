"""Stage `guardrail_prompted`: the frozen base itself is asked what is unsafe. Nothing is trained; the other guardrails are
compared with it.

B batch, V vocabulary.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from trainer.config.training import micro_batch_size
from trainer.data.labelled import Labelled
from trainer.errors import ConfigError
from trainer.methods.dsa.base import read
from trainer.methods.dsa.batches import shares
from trainer.methods.dsa.examples import LABELS, encode
from trainer.methods.dsa.names import TRAIN
from trainer.methods.dsa.section import DsaMethod, PromptedJudge
from trainer.methods.dsa.stage_data import read_sets
from trainer.methods.dsa.stage_guardrail import known_labels, write_probabilities
from trainer.models.inference import load_for_inference
from trainer.models.load import load_tokenizer
from trainer.pipeline.context import StageContext

_SLOT = re.compile(r"\{(prompt|response)\}")


def run(context: StageContext) -> list[Path]:
    """Writes `report.json` and `probabilities.jsonl` as a trained guardrail does; a text has the probabilities of those labels
    that it has, each from a question of its own."""
    config, method = context.config, context.config.method
    assert isinstance(method, DsaMethod)
    context.connect()
    path = context.base_model
    tokenizer = load_tokenizer(config.model, path)
    answers = answer_tokens(tokenizer, method.prompted)
    rows = [(of_set, row) for of_set, of_rows in read_sets(context.run_dir).items() for row in of_rows]
    asked = [(index, label) for index, (of_set, row) in enumerate(rows) if of_set != TRAIN for label in known_labels(row)]
    questions = [question(method.prompted, rows[index][1], label) for index, label in asked]
    model = load_for_inference(config, path)
    found = context.gather(share_of_answers(context, questions, tokenizer, model, answers))
    p = {place: value for part in found for place, value in part.items()}
    probabilities: dict[int, dict[str, float]] = {}
    for place, (index, label) in enumerate(asked):
        probabilities.setdefault(index, {})[label] = p[place]
    labels = tuple(label for label in LABELS if any(label == of_one for _, of_one in asked))
    _, written = write_probabilities(context, rows, labels, probabilities, 0)
    return written


def question(judge: PromptedJudge, row: Labelled, label: str) -> str:
    """What the base is asked about a row's prompt or its response. Braces in the row's own text stay as they are."""
    texts = {"prompt": row.prompt, "response": row.response or ""}
    template = judge.question_prompt if label == "prompt" else judge.question_response
    return _SLOT.sub(lambda slot: texts[slot[1]], template)


def answer_tokens(tokenizer: Any, judge: PromptedJudge) -> tuple[int, int]:
    """The first tokens of the answers `unsafe` and `safe`, as the chat template puts them where a reply begins.

    Raises:
        ConfigError: the tokenizer does not know an answer, the template begins a reply with something else, or both answers
            begin with the same token.
        DataError: as `encode`.
    """
    (asked,) = encode(tokenizer, [Labelled("?")])
    start = len(asked.ids)
    tokens = []
    for key, answer in (("unsafe", judge.unsafe), ("safe", judge.safe)):
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
        if ids[:start] != asked.ids or len(ids) == start:
            raise ConfigError(
                f"method.prompted.{key}: in the tokenizer's chat template, a reply of {answer!r} does not begin where the "
                "reply to a prompt should, perhaps because the model thinks first; turn that off in model.chat_template_kwargs "
                "(enable_thinking: false, for instance), or remove prompted from method.baselines."
            )
        if ids[start] == tokenizer.unk_token_id:
            raise ConfigError(f"method.prompted.{key}: the tokenizer does not know {answer!r}; set an answer that it knows.")
        tokens.append(ids[start])
    if tokens[0] == tokens[1]:
        raise ConfigError(
            f"method.prompted: the answers {judge.unsafe!r} and {judge.safe!r} begin with the same token, "
            f"{tokenizer.convert_ids_to_tokens(tokens[0])!r}, and only the first counts; set unsafe and safe to other words."
        )
    return tokens[0], tokens[1]


def p_unsafe(logits: Tensor, unsafe: int, safe: int) -> Tensor:
    """The probability of the token `unsafe` where the reply is one of the two: softmax over their log-probabilities.

    Double precision, since an assured base would else say 1 of many texts, which then tie.

    Args:
        logits: (B, V), at the first position of the reply.

    Returns:
        (B,).
    """
    return (logits[:, unsafe].double() - logits[:, safe].double()).sigmoid()


def share_of_answers(
    context: StageContext, questions: list[str], tokenizer: Any, model: Any, answers: tuple[int, int]
) -> dict[int, float]:
    """Number of a question -> p(unsafe), of this rank's share; every question is in a share."""
    ids = [example.ids for example in encode(tokenizer, [Labelled(text) for text in questions])]
    batch_size = micro_batch_size(context.config, context.config.training[0])
    batches = list(shares([len(of_one) for of_one in ids], batch_size, context.rank, context.world_size))
    found: dict[int, float] = {}
    for places in tqdm(batches, desc="asking the base", unit="batch", disable=not context.is_main):
        inputs = tokenizer.pad({"input_ids": [ids[place] for place in places]}, padding_side="left", return_tensors="pt").to(
            model.device
        )  # on the left: then the reply begins after the last column
        logits = read(model, inputs["input_ids"], inputs["attention_mask"], logits_to_keep=1).logits[:, -1]
        found.update(zip(places, p_unsafe(logits, *answers).tolist(), strict=True))
    return found
