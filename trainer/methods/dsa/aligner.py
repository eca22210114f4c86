"""An aligner: a second next-token distribution, read by the base's own frozen LM head (arXiv 2506.00166).

B batch, T tokens, d hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from trainer.errors import ConfigError
from trainer.methods.dsa.adapter_config import ALIGNERS
from trainer.methods.dsa.adapters import Adapter


class Aligner(nn.Module):
    """An adapter and, for the ladders, the up-projection U.

        lst       U LN(s_L)
        lst_plus  h_L + U LN(s_L), U = 0 at start
        lld       the last state of the copied blocks

    so lst_plus and lld equal the base before they are trained.

    Raises:
        ConfigError: the adapter is a reader of classes only (plr, rtb), or the base is an encoder.
    """

    def __init__(self, adapter: Adapter, hidden_size: int):
        super().__init__()
        kind = adapter.config.kind
        if kind not in ALIGNERS:
            raise ConfigError(f"adapter {kind}: cannot align; an aligner is one of {', '.join(ALIGNERS)}.")
        if not adapter.causal:
            raise ConfigError(f"adapter {kind}: the base is an encoder, which predicts no next token; use a causal base.")
        self.adapter = adapter
        self.residual = kind == "lst_plus"
        self.up = None if kind == "lld" else nn.Linear(adapter.width, hidden_size, bias=False)
        if self.residual and self.up is not None:
            nn.init.zeros_(self.up.weight)

    def states(self, hidden: Sequence[Tensor], attention_mask: Tensor, cache: Any = None) -> Tensor:
        """What the LM head is applied to, (B, T, d), in the base's dtype; arguments as of `Adapter.forward`."""
        features = self.adapter(hidden, attention_mask, cache)
        out = (features if self.up is None else self.up(features)).to(hidden[-1].dtype)
        return hidden[-1] + out if self.residual else out

    forward = states

    def new_cache(self) -> Any:
        """An empty cache for `states`, of keys and values."""
        return self.adapter.new_cache()
