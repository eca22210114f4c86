"""Which layers of a gene are kept: activation contrast, and its controls (arXiv 2606.06519, step 2).

    c_l = E_harmful ||h_l^A - h_l^D|| / ||h_l^A||  -  gamma E_benign of the same

N prompts, L layers, H hidden size.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from trainer.errors import ConfigError
from trainer.methods.safegene.names import Choice
from trainer.models.low_rank import LowRank

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


def layer_of(site: str) -> int:
    """The block that a linear layer is in: the first number in its name.

    Raises:
        ConfigError: it is in none.
    """
    found = _LAYER.search(site)
    if found is None:
        raise ConfigError(f"method.gene.lora.target_modules: {site} is in no block, and a gene has one scalar per block.")
    return int(found[1])


def relative_change(aligned: Tensor, degraded: Tensor) -> Tensor:
    """||h^A - h^D|| / ||h^A|| for states (N, L, H): (N, L)."""
    change: Tensor = (aligned - degraded).norm(dim=-1) / aligned.norm(dim=-1)
    return change


def contrast(harmful: Tensor, benign: Tensor, gamma: float) -> list[float]:
    """c_l for every layer, from relative changes (N, L) of prompts of either kind."""
    return [float(c) for c in harmful.double().mean(0) - gamma * benign.double().mean(0)]


def weight_norms(additions: Mapping[str, LowRank], layers: int) -> list[float]:
    """||dW||_F of every layer, over its sites."""
    squares = [0.0] * layers
    for site, addition in additions.items():
        squares[layer_of(site)] += float(addition.delta.double().square().sum())
    return [square**0.5 for square in squares]


def chosen_layers(by: Choice, scores: Sequence[float], norms: Sequence[float], keep: int, seed: int) -> list[int]:
    """The layers that are kept, in order.

    Args:
        scores: the contrast of every layer.
        norms: the weight norm of every layer.
        keep: how many, at most.
    """
    layers: Iterable[int] = range(len(scores))
    if by == "all":
        return list(layers)
    if by == "random":
        return sorted(random.Random(f"layers-{seed}").sample(range(len(scores)), min(keep, len(scores))))
    values = norms if by == "weight_norm" else scores
    ranked = sorted(layers, key=lambda layer: values[layer], reverse=by != "bottom")
    return sorted(ranked[:keep])
