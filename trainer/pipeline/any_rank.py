"""One question that all ranks answer alike."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def any_rank(flag: bool, device: Any) -> bool:
    """Whether the flag is set on any rank; the same on all of them. A collective, on `device` (that of the backend)."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor([flag], dtype=torch.int32, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())
