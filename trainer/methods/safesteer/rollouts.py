"""Samples from a model at temperature 1 that do not depend on how they are batched or over how many ranks.

Each row has a seed of its own, and its tokens follow from its prompt, the weights and that seed alone: so a run on two
processes trains on the samples of a run on one, and a resumed run on those of an undisturbed one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList


def seed_of(*parts: object) -> int:
    """A seed of 63 bits from anything that has a stable repr: run seed, step, prompt, rollout."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class _InverseCdf(LogitsProcessor):
    """Chooses by inverse transform sampling, one uniform number per row and token, and leaves only the chosen token."""

    def __init__(self, uniforms: torch.Tensor, prompt_length: int):
        self.uniforms = uniforms  # (B, T)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        cumulative = scores.float().softmax(-1).cumsum(-1)  # (B, V)
        drawn = self.uniforms[:, input_ids.shape[1] - self.prompt_length, None].to(cumulative.device)
        # Rounding leaves the sum a little off 1; a token without probability must never be chosen.
        token = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
        chosen = torch.full_like(scores, -torch.inf).scatter_(-1, token.clamp(max=scores.shape[-1] - 1), 0.0)
        return chosen  # type: ignore[return-value]  # full_like keeps the type


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    *,
    max_new_tokens: int,
    stop_tokens: Sequence[int],
    pad_token: int,
) -> list[list[int]]:
    """One completion a prompt, generated as one batch with a KV cache.

    Args:
        prompts: token ids, of any lengths.
        seeds: one per prompt; see `seed_of`.
        stop_tokens: a completion ends with the first of these, which belongs to it.

    Returns:
        The completions' token ids, at most `max_new_tokens` each.
    """
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.tensor([[pad_token] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    uniforms = torch.stack([torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    was_training = model.training
    model.eval()
    with torch.no_grad():
        output = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,  # the processor draws
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=LogitsProcessorList([_InverseCdf(uniforms, width)]),
            pad_token_id=pad_token,
            eos_token_id=list(stop_tokens),
        )
    model.train(was_training)
    return [_up_to_stop(row[width:], stop_tokens) for row in output.tolist()]


def _up_to_stop(tokens: list[int], stop_tokens: Sequence[int]) -> list[int]:
    end = next((index for index, token in enumerate(tokens) if token in stop_tokens), len(tokens) - 1)
    return tokens[: end + 1]
