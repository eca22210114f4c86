"""Batches of labelled examples for a guardrail, and their shares for the ranks.

B batch, T tokens, K labels, d hidden size, N examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainer.methods.dsa.examples import LABELS, Example
from trainer.methods.dsa.features import Features

UNKNOWN = -1.0


def labels_of(examples: Sequence[Example], names: Sequence[str]) -> Tensor:
    """(N, K) of 1 unsafe, 0 safe, -1 not known."""
    places = [LABELS.index(name) for name in names]
    known = [[UNKNOWN if row.labels[place] is None else float(row.labels[place] or 0) for place in places] for row in examples]
    return torch.tensor(known)


class Collator:
    """Makes the inputs of a guardrail from rows `{"row": index}`; padding is on the right.

    Args:
        targets: (N, K), in the order of `names`; -1 where one is not known.
        features: hidden states computed before; then batches hold these in place of token ids.
    """

    def __init__(
        self, examples: Sequence[Example], names: Sequence[str], targets: Tensor, pad_token: int, features: Features | None
    ):
        self.examples, self.targets, self.pad_token, self.features = examples, targets, pad_token, features
        self.places = [LABELS.index(name) for name in names]

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            positions, labels: (B, K); attention_mask (B, T); and input_ids (B, T), or hidden: h_0 .. h_L, each (B, T, d), empty
            where the guardrail does not read it. T is K where the features are of those positions alone.
        """
        rows = [item["row"] for item in items]
        examples = [self.examples[row] for row in rows]
        lengths = [len(example.ids) for example in examples]
        positions = torch.tensor([[example.positions[place] for place in self.places] for example in examples])
        batch: dict[str, Any] = {"labels": self.targets[rows]}
        if self.features is None:
            ids = [torch.tensor(example.ids) for example in examples]
            batch["input_ids"] = pad_sequence(ids, batch_first=True, padding_value=self.pad_token)
        else:
            batch["hidden"] = self.features.batch(rows)
            if self.features.at_labels:
                lengths = [len(self.places)] * len(rows)
                positions = torch.arange(len(self.places)).expand(len(rows), -1).clone()
        batch["attention_mask"] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        batch["positions"] = positions
        return batch


def shares(lengths: Sequence[int], batch_size: int, rank: int, world_size: int) -> Iterator[list[int]]:
    """The batches of one rank, of rows of similar length, longest first. Every rank has equally many, as weights sharded by
    ZeRO-3 need: where a share is short, a row occurs twice."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    places = range(rank, -(-len(order) // world_size) * world_size, world_size)
    mine = [order[min(place, len(order) - 1)] for place in places]
    for start in range(0, len(mine), batch_size):
        yield mine[start : start + batch_size]
