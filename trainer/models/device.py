"""Which device this rank computes on."""

from __future__ import annotations

import os

import torch


def device_of_rank() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
