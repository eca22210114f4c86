"""How likely a model is to refuse, read from the first token of its reply (arXiv 2606.02530, section 1 of the method).

B batch, V vocabulary, S refusal tokens, N prompts, R prompts of this rank.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.errors import ConfigError, StageFailed
from trainer.evaluation.generate import complete
from trainer.items import Message
from trainer.models.template import bare_template

OPENINGS = ("I", "I'm", "As", "Sorry", "Unfortunately", "Apologies", "My", "No", "It", "This", "We", "You", "Please", "While")
REFUSALS = (
    "cannot", "can not", "can't", "unable to", "not able to", "won't", "will not", "sorry", "apologize", "apologise",
    "decline", "refuse", "as an ai", "not appropriate", "against my",
)  # fmt: skip
REPLY_TOKENS = 16  # enough to read whether a reply refuses

_EPSILON = 1e-8
_SHOWN = 5  # most frequent first tokens, where no refusal token is found


def score(logits: Tensor, tokens: Tensor) -> Tensor:
    """log(P + 1e-8) - log(1 - P + 1e-8), where P is the probability mass on `tokens`.

    Args:
        logits: (B, V), at the last position of each prompt.
        tokens: (S,), distinct.

    Returns:
        (B,), float32 or float64. Above 0 the model is more likely to refuse than not.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    mass = exact.softmax(-1)[:, tokens.to(logits.device)].sum(-1).clamp(max=1.0)  # rounding may leave it above 1
    return (mass + _EPSILON).log() - (1 - mass + _EPSILON).log()


class Prompts:
    """Chats that end where the model's reply begins, of which each rank runs a share, batch by batch.

    Every rank runs the same number of forward passes, which weights sharded by ZeRO-3 need: where a share is short it
    repeats a prompt, and the repeat counts nothing.

    Attributes:
        mine: indices of this rank's chats, (R,).
    """

    def __init__(self, model: Any, tokenizer: Any, chats: Sequence[Sequence[Message]], batch_size: int):
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        rows = prompt_tokens(tokenizer, chats)
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))  # a batch has little padding
        places = range(rank, -(-len(rows) // world_size) * world_size, world_size)
        self.mine = [order[min(place, len(rows) - 1)] for place in places]
        self.count = len(rows)
        self._weights = torch.tensor([float(place < len(rows)) for place in places], dtype=torch.float64)
        self._rows = [rows[index] for index in self.mine]
        self._model = model
        self._batch_size = batch_size
        self._pad = tokenizer.pad_token_id
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._accepted = inspect.signature(inner.forward).parameters

    def weights(self) -> Iterator[Tensor]:
        """A batch's weights (B,): 1, or 0 where a prompt is a repeat."""
        yield from self._weights.to(self._model.device).split(self._batch_size)

    def last_logits(self) -> Iterator[Tensor]:
        """A batch's logits (B, V) of the first token of each reply. The model is left in evaluation mode."""
        self._model.eval()
        for start in range(0, len(self._rows), self._batch_size):
            yield self._forward(self._rows[start : start + self._batch_size])

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """One number a chat, (N,) in the order of the chats and the same on every rank, from those of this rank's batches.

        Args:
            values: a tensor (B,) per batch.
        """
        found = torch.zeros(self.count, dtype=torch.float64)
        weighted = torch.cat([value.double().cpu() for value in values]) * self._weights
        found.index_add_(0, torch.tensor(self.mine), weighted)
        return self.sum_over_ranks(found)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        if dist.is_initialized():
            values = values.to(self._model.device)
            dist.all_reduce(values)
        return values.cpu()

    @torch.no_grad()
    def _forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        width = max(len(row) for row in rows)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        ids = torch.tensor([[self._pad] * (width - len(row)) + list(row) for row in rows])
        # Not every model derives positions from the mask, and with absolute ones padding on the left would move them.
        optional = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0).to(self._model.device), "logits_to_keep": 1}
        output = self._model(
            input_ids=ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            use_cache=False,
            **{name: value for name, value in optional.items() if name in self._accepted},
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def prompt_tokens(tokenizer: Any, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of each chat up to where the reply begins, without a system prompt that it does not have itself."""
    template = bare_template(tokenizer)
    found: list[list[int]] = tokenizer.apply_chat_template(
        list(chats), chat_template=template, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return found


@dataclass(frozen=True)
class RefusalTokens:
    """First tokens of replies that refuse.

    Attributes:
        ids, texts: the tokens.
        shares: share of harmful prompts whose reply opens with each.
        refused: share of harmful prompts whose reply reads as a refusal.
        on_harmless: share of harmless prompts whose reply opens with one of the tokens.
    """

    ids: list[int]
    texts: list[str]
    shares: list[float]
    refused: float
    on_harmless: float


def find_refusal_tokens(
    model: Any,
    tokenizer: Any,
    harmful_chats: Sequence[Sequence[Message]],
    harmless_chats: Sequence[Sequence[Message]],
    batch_size: int,
    given: Sequence[int] = (),
) -> RefusalTokens:
    """The usual openings of a refusal that this model uses: harmful prompts are answered greedily, and what opens a reply
    that reads as a refusal is kept. The same on every rank.

    Args:
        given: take these tokens instead, and only measure them.

    Raises:
        StageFailed: the model refuses nothing, or opens its refusals in no usual way.
    """
    harmful = Prompts(model, tokenizer, harmful_chats, batch_size)
    harmless = Prompts(model, tokenizer, harmless_chats, batch_size)
    refuses = torch.zeros(len(harmful.mine))
    asked, bare = [harmful_chats[i] for i in harmful.mine], bare_template(tokenizer)
    for batch in complete(asked, model, tokenizer, REPLY_TOKENS, batch_size, bare):
        for place, reply in batch:
            refuses[place] = reads_as_refusal(reply)
    first_harmful, first_harmless = (
        prompts.gather([logits.argmax(-1) for logits in prompts.last_logits()]).long().tolist()
        for prompts in (harmful, harmless)
    )
    return verify(
        given or candidate_tokens(tokenizer),
        tokenizer,
        first_harmful,
        harmful.gather([refuses]).bool().tolist(),
        first_harmless,
        keep_all=bool(given),
    )


def verify(
    candidates: Sequence[int],
    tokenizer: Any,
    first_tokens: Sequence[int],
    refuses: Sequence[bool],
    first_harmless: Sequence[int],
    keep_all: bool = False,
) -> RefusalTokens:
    """The candidates that open at least one reply that reads as a refusal, most frequent first.

    Args:
        first_tokens, refuses: of the replies to harmful prompts, (N,) each.
        first_harmless: of the replies to harmless prompts.
        keep_all: keep every candidate.

    Raises:
        StageFailed: none is left.
    """
    opened = Counter(first_tokens)
    confirmed = {token for token, refused in zip(first_tokens, refuses, strict=True) if refused}
    kept = sorted((t for t in candidates if keep_all or t in confirmed), key=lambda token: (-opened[token], token))
    if not kept:
        common = ", ".join(f"{tokenizer.decode([token])!r} ({count})" for token, count in opened.most_common(_SHOWN))
        raise StageFailed(
            f"no refusal token found: of {len(first_tokens)} harmful prompts the base refused {sum(refuses)}, and its replies "
            f"open with {common}. Use a base that refuses some of these prompts, or give method.direction.refusal_tokens."
        )
    return RefusalTokens(
        ids=kept,
        texts=[tokenizer.decode([token]) for token in kept],
        shares=[opened[token] / len(first_tokens) for token in kept],
        refused=sum(refuses) / len(refuses),
        on_harmless=sum(token in kept for token in first_harmless) / len(first_harmless),
    )


def candidate_tokens(tokenizer: Any) -> list[int]:
    """Ids of the tokens with which the usual openings of a refusal begin, in the spellings that a tokenizer may have."""
    spellings = [spelling for opening in OPENINGS for word in (opening, opening.lower()) for spelling in (word, f" {word}")]
    first = {cut[0] for spelling in spellings for cut in (_reply_tokens(tokenizer, spelling), _tokens(tokenizer, spelling))}
    return sorted(first - set(tokenizer.all_special_ids))


def given_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Ids of tokens that the user names, as they are at the start of a reply.

    Raises:
        ConfigError: one is not exactly one token.
    """
    cuts = {text: _reply_tokens(tokenizer, text) for text in texts}
    problems = [
        f"method.direction.refusal_tokens: {text!r} is cut into {tokenizer.convert_ids_to_tokens(cut)}; give texts of "
        "exactly one known token."
        for text, cut in cuts.items()
        if len(cut) != 1 or cut[0] == tokenizer.unk_token_id
    ]
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(cut[0] for cut in cuts.values()))


def reads_as_refusal(reply: str) -> bool:
    plain = reply.lower().replace("\u2019", "'")
    return any(phrase in plain for phrase in REFUSALS)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _reply_tokens(tokenizer: Any, reply: str) -> list[int]:
    """How a reply is cut where it stands: after the chat template."""
    before = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], add_generation_prompt=True, tokenize=False)
    prompt = _tokens(tokenizer, before)
    both = _tokens(tokenizer, before + reply)
    return both[len(prompt) :] if both[: len(prompt)] == prompt else _tokens(tokenizer, reply)
