"""Samples and the order of training rows: what makes runs on one process and on several the same."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.methods.safesteer.rollouts import sample, seed_of
from trainer.methods.safesteer.sampler import RolloutSampler

VOCABULARY = 12
STOP, PAD = 1, 0
PROMPTS = [[3, 4, 5], [6, 7], [8, 9, 10, 11], [3]]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        eos_token_id=STOP, pad_token_id=PAD, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _sample(model: LlamaForCausalLM, prompts: list[list[int]], seeds: list[int], length: int = 12) -> list[list[int]]:
    return sample(model, prompts, seeds, max_new_tokens=length, stop_tokens=[STOP], pad_token=PAD)


def test_a_sample_depends_on_its_prompt_and_seed_and_not_on_its_batch(model: LlamaForCausalLM) -> None:
    seeds = [seed_of("run", index) for index in range(len(PROMPTS))]
    together = _sample(model, PROMPTS, seeds)
    assert together == [_sample(model, [prompt], [seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    assert together[::-1] == _sample(model, PROMPTS[::-1], seeds[::-1])
    assert together != _sample(model, PROMPTS, [seed + 1 for seed in seeds])


def test_a_completion_ends_with_the_first_stop_token_which_belongs_to_it(model: LlamaForCausalLM) -> None:
    completions = _sample(model, [PROMPTS[0]] * 64, list(range(64)), length=20)
    stopped = [c for c in completions if STOP in c]
    assert stopped and len(stopped) < len(completions)
    assert all(c.index(STOP) == len(c) - 1 for c in stopped)
    assert all(len(c) == 20 for c in completions if STOP not in c)


def test_tokens_have_the_model_s_own_probabilities(model: LlamaForCausalLM) -> None:
    draws = 4000
    with torch.no_grad():
        expected = model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    first = Counter(c[0] for c in _sample(model, [PROMPTS[0]] * draws, [seed_of(i) for i in range(draws)], length=1))
    for token, probability in enumerate(expected.tolist()):
        five_sigma = 5 * (probability * (1 - probability) / draws) ** 0.5
        assert first[token] / draws == pytest.approx(probability, abs=five_sigma + 1e-3)


def test_sampling_leaves_the_model_in_the_mode_that_it_was_in(model: LlamaForCausalLM) -> None:
    model.train()
    _sample(model, PROMPTS, [0] * len(PROMPTS))
    assert model.training
    model.eval()


def _rows(sampler: RolloutSampler, per_step: int) -> list[list[int]]:
    rows = list(sampler)
    return [rows[start : start + per_step] for start in range(0, len(rows), per_step)]


def test_a_step_has_whole_prompts_once_for_every_micro_step() -> None:
    sampler = RolloutSampler(rows=10 * 4, rollouts=4, rows_per_step=8, repeats=3, shuffle=True, seed=0)
    steps = _rows(sampler, 8)
    assert len(sampler) == len(steps) * 8 == 5 * 3 * 8
    for first in range(0, len(steps), 3):
        assert steps[first] == steps[first + 1] == steps[first + 2]
        prompts = Counter(row // 4 for row in steps[first])
        assert list(prompts.values()) == [4, 4]
    assert sorted(row for step in steps[::3] for row in step) == list(range(40))


def test_every_epoch_has_its_own_order_which_a_restart_finds_again() -> None:
    sampler = RolloutSampler(rows=40, rollouts=2, rows_per_step=4, repeats=1, shuffle=True, seed=7)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    again = RolloutSampler(rows=40, rollouts=2, rows_per_step=4, repeats=1, shuffle=True, seed=7)
    again.set_epoch(1)
    assert first != second == list(again)


def test_what_does_not_fill_a_step_is_left_out() -> None:
    sampler = RolloutSampler(rows=5 * 2, rollouts=2, rows_per_step=4, repeats=1, shuffle=False, seed=0)
    assert list(sampler) == list(range(8)) and len(sampler) == 8
