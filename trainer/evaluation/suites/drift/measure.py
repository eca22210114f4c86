"""Likelihoods of given answers, token by token.

Shapes: B answers read together, T tokens of an answer, L tokens of the longest sequence, V the vocabulary."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainer.data.preferences import Preference
from trainer.errors import ConfigError
from trainer.evaluation.measured import Loaded, Measured, Unit, measure_left
from trainer.evaluation.statistics import ratio_interval
from trainer.evaluation.suites.drift.section import DriftEvaluation
from trainer.items import Contender, Message
from trainer.pipeline.context import StageContext

Answers = Mapping[str, Sequence[Preference]]  # by set


@dataclass(frozen=True)
class OfAnswer(Unit):
    """An answer of a set, under the model of a contender's weights with its system prompt."""

    system: str | None
    of_set: str
    row: int


def measure(
    suite: DriftEvaluation, context: StageContext, contenders: Sequence[Contender], loaded: Loaded
) -> dict[str, Measured]:
    """See `trainer/evaluation/measured.py`. The base's log-probabilities are kept in memory, so that no two models are on a
    device together: on each rank its share of the answers x T x V float32.

    Raises:
        DataError: a set cannot be read.
        ConfigError: an answer has no place in the model's positions.
    """
    answers: Answers = context.together(lambda: {name: suite.answers(name) for name in suite.sets})
    rows = [(name, row) for name, of_set in answers.items() for row in range(len(of_set))]
    reading = _Reading(suite, answers, loaded)
    units = [OfAnswer(c.weights, c.system, *row) for c in contenders for row in rows]
    found = measure_left(context, "drift", units, loaded, reading.measure, reading.prepare)
    summed_up = partial(entries, resamples=suite.resamples, seed=context.config.seed)
    return {
        c.label: Measured(summed_up([(name, found[OfAnswer(c.weights, c.system, name, row)]) for name, row in rows]))
        for c in contenders
    }


class _Reading:
    def __init__(self, suite: DriftEvaluation, answers: Answers, loaded: Loaded):
        self.suite, self.answers, self.loaded = suite, answers, loaded
        self.base: dict[OfAnswer, Tensor] = {}  # (T, V) log-probabilities

    def prepare(self, share: Sequence[OfAnswer]) -> None:
        """Read the base on all that other models are compared with it on."""
        wanted = list(dict.fromkeys(_of_base(unit) for unit in share if unit != _of_base(unit)))
        if wanted:
            with self.loaded("base") as (model, tokenizer):
                self.base = {unit: found for unit, found, _ in self._read(wanted, model, tokenizer)}

    def measure(
        self, share: Sequence[OfAnswer], model: Any, tokenizer: Any
    ) -> Iterator[tuple[OfAnswer, dict[str, Any] | None]]:
        """Of each answer: `nll`, the sum over its tokens of -log p, `kl`, the sum of the divergences, None of the base itself,
        and `tokens`. None where it is no model that gives likelihoods, only answers."""
        if not isinstance(model, nn.Module):
            yield from ((unit, None) for unit in share)
            return
        for unit, found, tokens in self._read(share, model, tokenizer):
            nll = -found.gather(1, tokens[:, None]).sum().item()
            base = self.base.get(_of_base(unit)) if unit != _of_base(unit) else None
            yield unit, {"nll": nll, "kl": None if base is None else divergence(found, base), "tokens": len(tokens)}

    def _read(self, units: Sequence[OfAnswer], model: Any, tokenizer: Any) -> Iterator[tuple[OfAnswer, Tensor, Tensor]]:
        model.eval()
        for start in range(0, len(units), self.suite.batch_size):
            batch = units[start : start + self.suite.batch_size]
            sequences = [self._tokens(unit, tokenizer) for unit in batch]
            for unit, found, (_, tokens) in zip(batch, log_probabilities(model, sequences), sequences, strict=True):
                yield unit, found, torch.tensor(tokens)

    def _tokens(self, unit: OfAnswer, tokenizer: Any) -> tuple[list[int], list[int]]:
        """Of the conversation, as it stands before an answer, and of the answer."""
        given = self.answers[unit.of_set][unit.row]
        chat: list[Message] = [*given.prompt]
        if unit.system is not None:
            own = [message for message in chat if message["role"] != "system"]
            chat = [{"role": "system", "content": unit.system}, *own]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        return prompt, tokenizer(given.chosen, add_special_tokens=False)["input_ids"][: self.suite.tokens]


def _of_base(unit: OfAnswer) -> OfAnswer:
    """The same answer under the base alone."""
    return replace(unit, weights="base", system=None)


def log_probabilities(model: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
    """Log-probabilities of all tokens at the place of each token of an answer, on the CPU.

    Args:
        sequences: tokens of a prompt, and of the answer to it; B of them.

    Returns:
        (T, V) float32 for each.

    Raises:
        ConfigError: one is longer than the model has positions for.
    """
    length = max(len(prompt) + len(answer) for prompt, answer in sequences)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise ConfigError(
            f"evaluation.sets: a request and the beginning of its answer are {length} tokens, and the model has positions for "
            f"{positions}; take the row out, or lower evaluation.tokens."
        )
    ids, mask = (torch.zeros(len(sequences), length, dtype=torch.long, device=model.device) for _ in range(2))
    for row, (prompt, answer) in enumerate(sequences):
        whole = torch.tensor([*prompt, *answer])
        ids[row, length - len(whole) :], mask[row, length - len(whole) :] = whole.to(ids), 1
    kept = max(len(answer) for _, answer in sequences) + 1  # the answers end where the rows do
    takes = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0), "logits_to_keep": kept}
    with torch.inference_mode():
        output = model(input_ids=ids, attention_mask=mask, **{name: value for name, value in options.items() if name in takes})
    logits = output.logits[:, -kept:-1].float().log_softmax(-1).cpu()  # (B, kept - 1, V)
    return [row[len(row) - len(answer) :] for row, (_, answer) in zip(logits, sequences, strict=True)]


def divergence(model: Tensor, base: Tensor) -> float:
    """Sum over the places of KL(model || base) in nats.

    Args:
        model, base: log-probabilities, (T, V).
    """
    return torch.where(model > -torch.inf, model.exp() * (model - base), 0.0).sum().item()


def entries(rows: Sequence[tuple[str, Mapping[str, Any] | None]], resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """`answer_perplexity`, exp of the mean of -log p over all tokens, and `kl_to_base`, the mean divergence of a token; both
    also `.../<set>`. n is the number of answers, which are resampled for the interval.

    Args:
        rows: the set of each answer, and what was measured of it.
    """
    measured = [(name, value) for name, value in rows if value is not None]
    groups = {"": [value for _, value in measured]}
    for name, value in measured:
        groups.setdefault(f"/{name}", []).append(value)
    found: dict[str, dict[str, Any]] = {}
    for of_set, values in groups.items():
        for key, metric, shown in (("nll", "answer_perplexity", math.exp), ("kl", "kl_to_base", float)):
            sums = [value[key] for value in values if value[key] is not None]
            if not sums:
                continue
            tokens = [value["tokens"] for value in values]
            interval = ratio_interval(sums, tokens, resamples, seed)
            found[f"{metric}{of_set}"] = {
                "value": shown(math.fsum(sums) / sum(tokens)),
                "ci95": None if interval is None else [shown(bound) for bound in interval],
                "n": len(sums),
            }
    return found
