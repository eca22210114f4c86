"""Which losses there are, and how large the tiles of logits are in which they are computed."""

from __future__ import annotations

from typing import Literal

LossKind = Literal["slice", "renormalised", "full", "forward"]
TILE_TOKENS = 1024
TILE_VOCABULARY = 4096
