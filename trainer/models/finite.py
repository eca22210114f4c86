"""Weights that no computation can use."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def ruined(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of those that hold NaN or infinity, or numbers so large that float32 does not hold the sum of their squares: no
    product with them is finite. Of a ZeRO-3 shard, what this rank has.
    """
    named = {name: getattr(weight, "ds_tensor", weight).detach() for name, weight in weights}
    named = {name: weight for name, weight in named.items() if weight.is_floating_point() and weight.itemsize > 1}
    norms: dict[torch.device, dict[str, Tensor]] = {}
    for name, weight in named.items():
        wide = torch.promote_types(weight.dtype, torch.float32)
        norms.setdefault(weight.device, {})[name] = torch.linalg.vector_norm(weight, dtype=wide)
    found = []
    for of_device in norms.values():  # one answer from each device, not one for each weight
        finite = torch.stack(list(of_device.values())).isfinite().tolist()
        found += [name for name, is_finite in zip(of_device, finite, strict=True) if not is_finite]
    return found
