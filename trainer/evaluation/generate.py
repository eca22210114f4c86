"""Batched greedy generation, sharded over ranks; what is written is never generated again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LogitsProcessor, LogitsProcessorList

from trainer.config.sections import GenerationSection
from trainer.errors import ArtifactError, ConfigError
from trainer.items import Message
from trainer.models.template import stop_tokens
from trainer.pipeline.context import StageContext
from trainer.pipeline.watchdog import beat
from trainer.record import fingerprint_of


@dataclass(frozen=True)
class Task:
    """One generation. Contenders that show the same weights the same chat share it."""

    weights: str
    messages: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, weights: str, messages: Sequence[Message]) -> Task:
        return cls(weights, tuple((m["role"], m["content"]) for m in messages))

    @property
    def key(self) -> str:
        return fingerprint_of([self.weights, self.messages])

    def chat(self) -> list[Message]:
        return [{"role": role, "content": content} for role, content in self.messages]


def read_generations(directory: Path) -> dict[str, str]:
    """Everything generated so far, by any rank of any start; a line cut short by a kill is passed over."""
    found: dict[str, str] = {}
    for path in sorted(directory.glob("generated-rank*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            found[row["key"]] = row["response"]
    return found


def this_ranks_share(tasks: Sequence[Task], done: dict[str, str], rank: int, world_size: int) -> list[Task]:
    """Every world_size-th of the tasks that are not done. All ranks must see the same `done`."""
    left = [task for task in dict.fromkeys(tasks) if task.key not in done]
    return left[rank::world_size]


def generate_left(
    context: StageContext, tasks: Sequence[Task], loaded: Callable[[], AbstractContextManager[tuple[Any, Any]]]
) -> None:
    """Generate what is not yet in the stage's directory, every rank its share. All ranks call it together.

    Args:
        loaded: a context with the model of these tasks and its tokenizer; entered only where something is left.
    """
    done = read_generations(context.stage_dir)
    context.barrier()  # every rank has read before any rank writes
    if share := this_ranks_share(tasks, done, context.rank, context.world_size):
        out = context.stage_dir / f"generated-rank{context.rank}.jsonl"
        with loaded() as (model, tokenizer):
            generate_share(share, model, tokenizer, context.config.generation, out, context.is_main)
    context.barrier()


def generate_share(
    tasks: Sequence[Task], model: Any, tokenizer: Any, settings: GenerationSection, out: Path, show_progress: bool
) -> None:
    """Generate and append to `out` batch by batch; decoding is greedy.

    Raises:
        ArtifactError: as `complete`; the text names the weights.
    """
    weights = tasks[0].weights if tasks else ""
    chats = [task.chat() for task in tasks]
    with out.open("a") as file, tqdm(
        total=len(tasks), desc=f"generating ({weights})", unit="response", disable=not show_progress
    ) as bar:  # fmt: skip
        try:
            for batch in complete(chats, model, tokenizer, settings.max_new_tokens, settings.batch_size):
                for index, text in batch:
                    file.write(json.dumps({"key": tasks[index].key, "response": text}) + "\n")
                file.flush()
                bar.update(len(batch))
        except ArtifactError as error:
            raise ArtifactError(f"evaluation of {weights}: {error}") from error


def complete(
    chats: Sequence[Sequence[Message]],
    model: Any,
    tokenizer: Any,
    max_new_tokens: int,
    batch_size: int,
    template: str | None = None,
) -> Iterator[list[tuple[int, str]]]:
    """Greedy replies, batch by batch, as (index of the chat, text).

    Prompts are sorted by length, longest first, so that a batch has little padding.

    Args:
        template: the chat template, where it is not the tokenizer's.

    Raises:
        ArtifactError: the model's logits are not finite, so that its replies would be nothing but the first token of all.
        ConfigError: a prompt fills all positions of the model.
    """
    if not chats:
        return
    rendered = tokenizer.apply_chat_template(list(chats), chat_template=template, add_generation_prompt=True, return_dict=True)
    prompts = rendered["input_ids"]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    stops = stop_tokens(model, tokenizer)
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        inputs = tokenizer.pad({"input_ids": [prompts[i] for i in batch]}, padding_side="left", return_tensors="pt")
        width = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = model.generate(
                **inputs.to(model.device),
                max_new_tokens=min(max_new_tokens, _room(model, width)),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=stops,
                logits_processor=LogitsProcessorList([_FiniteLogits()]),
            )
        replies = [_before(row, stops) for row in output[:, width:].tolist()]
        beat()
        texts = tokenizer.batch_decode(replies, skip_special_tokens=True)
        yield [(index, text.strip()) for index, text in zip(batch, texts, strict=True)]


class _FiniteLogits(LogitsProcessor):
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not (scores < torch.inf).all():  # nor NaN; -inf forbids a token
            raise ArtifactError(
                "the model's logits are not finite: its weights are ruined, and it answers nothing. Give another model, or "
                "train it again with a lower learning rate."
            )
        return scores


def _room(model: Any, width: int) -> int:
    """How many tokens still have a position after a prompt of `width` tokens.

    Raises:
        ConfigError: none.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        return sys.maxsize
    if width >= positions:
        raise ConfigError(
            f"model: a prompt of {width} tokens leaves no room for a reply in the model's {positions} positions; "
            "take the prompt out, or use a model with more positions."
        )
    return int(positions) - width


def _before(tokens: list[int], stops: Sequence[int]) -> list[int]:
    return tokens[: next((place for place, token in enumerate(tokens) if token in stops), len(tokens))]
