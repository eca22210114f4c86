"""The order of training rows: whole prompts, each with all its rollouts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class RolloutSampler(Sampler[int]):
    """Rows of the optimiser steps of one epoch, for a dataset that holds each prompt's rollouts one after another.

    A step's rows come once for every micro-step: TRL's on-policy trainers read them all each time, and sample at the first.
    What does not fill a step is left out.

    Args:
        rows: in the dataset: prompts x rollouts.
        rows_per_step: over all ranks.
        repeats: micro-steps of a step.
    """

    def __init__(self, rows: int, rollouts: int, rows_per_step: int, repeats: int, shuffle: bool, seed: int):
        self.rows = rows
        self.rollouts = rollouts
        self.rows_per_step = rows_per_step
        self.repeats = repeats
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another order; the same after a restart in the middle of it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        prompts = self.rows // self.rollouts
        order = list(range(prompts))
        if self.shuffle:
            order = torch.randperm(prompts, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        rows = [prompt * self.rollouts + rollout for prompt in order for rollout in range(self.rollouts)]
        for start in range(0, self.rows - self.rows_per_step + 1, self.rows_per_step):
            for _ in range(self.repeats):
                yield from rows[start : start + self.rows_per_step]

    def __len__(self) -> int:
        return self.rows // self.rows_per_step * self.rows_per_step * self.repeats
