"""Weights that no computation can use."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def ruined(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of those that hold NaN or infinity, or a number whose square float32 does not hold: no product with them is
    finite. Of a ZeRO-3 shard, what this rank has.
    """
    largest: dict[torch.device, dict[str, Tensor]] = {}
    for name, weight in weights:
        held = getattr(weight, "ds_tensor", weight).detach()
        if held.is_floating_point() and held.itemsize > 1 and held.numel():
            wide = torch.promote_types(held.dtype, torch.float32)
            share = torch.linalg.vector_norm(held, ord=torch.inf, dtype=wide) / torch.finfo(wide).max ** 0.5
            largest.setdefault(held.device, {})[name] = share
    found = []
    for of_device in largest.values():  # one answer from each device, not one for each weight
        fine = (torch.stack([share.float() for share in of_device.values()]) < 1).tolist()  # not where it is NaN
        found += [name for name, is_fine in zip(of_device, fine, strict=True) if not is_fine]
    return found
