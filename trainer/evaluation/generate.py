"""Batched greedy generation, sharded over ranks; what is written is never generated again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LogitsProcessor, LogitsProcessorList

from trainer.errors import ArtifactError, ConfigError
from trainer.evaluation.kept import Kept
from trainer.items import Chat
from trainer.models.template import stop_tokens
from trainer.pipeline.context import StageContext
from trainer.pipeline.watchdog import beat
from trainer.record import fingerprint_of

T = TypeVar("T")
Answers = Iterator[list[tuple[int, str]]]  # (index of the chat, text), batch by batch
Answering = Callable[[Sequence[Chat]], Answers]


def key_of(chat: Chat, max_new_tokens: int) -> str:
    """Under which the reply to a chat is kept."""
    return fingerprint_of([[[message["role"], message["content"]] for message in chat], max_new_tokens])


def answers_to(
    context: StageContext, chats: Sequence[Chat], kept: Kept, answering: Answering, max_new_tokens: int, what: str
) -> list[str]:
    """The reply to each chat: `collected`."""
    keys = [key_of(chat, max_new_tokens) for chat in chats]
    found = collected(context, dict(zip(keys, chats, strict=True)), kept, answering, what)
    return [found[key] for key in keys]


def collected(
    context: StageContext,
    wanted: Mapping[str, T],
    kept: Kept,
    answering: Callable[[Sequence[T]], Iterator[list[tuple[int, Any]]]],
    what: str,
) -> dict[str, Any]:
    """What is said of each, the same on all ranks, which call it together: what is kept, and of what is left every rank its
    share, kept as it comes.

    Args:
        wanted: key -> what it is said of.
        answering: called with this rank's share, where it has one; gives (index in it, what is said) in batches.
        what: is done, for the progress bar.

    Raises:
        ArtifactError, ConfigError: as `answering`; the text begins with what was done.
    """
    share = this_ranks_share(wanted, _kept_of(context, kept, wanted), context.rank, context.world_size)
    if share:
        with kept.appending() as append, tqdm(
            total=len(share), desc=what, unit="response", disable=not context.is_main
        ) as bar:  # fmt: skip
            try:
                for batch in answering([wanted[key] for key in share]):
                    append((share[index], value) for index, value in batch)
                    beat()
                    bar.update(len(batch))
            except (ArtifactError, ConfigError) as error:
                raise type(error)(f"{what}: {error}") from error
    context.barrier()
    return _kept_of(context, kept, wanted)


def _kept_of(context: StageContext, kept: Kept, wanted: Container[str]) -> dict[str, Any]:
    """Read by one rank: other runs may add to it all the time, and all ranks must see the same."""
    return context.together(lambda: {key: value for key, value in kept.read().items() if key in wanted})


def this_ranks_share(wanted: Iterable[str], done: Container[str], rank: int, world_size: int) -> list[str]:
    """Every world_size-th of the keys that are not done. All ranks must see the same `done`."""
    return [key for key in wanted if key not in done][rank::world_size]


def by_model(loaded: Callable[[], AbstractContextManager[tuple[Any, Any]]], max_new_tokens: int, batch_size: int) -> Answering:
    """Answers of a model on this rank. loaded: a context with the model and its tokenizer; entered only where it is asked."""

    def answering(chats: Sequence[Chat]) -> Answers:
        with loaded() as (model, tokenizer):
            yield from complete(chats, model, tokenizer, max_new_tokens, batch_size)

    return answering


def complete(
    chats: Sequence[Chat],
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
