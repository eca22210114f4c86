"""What an adapter is, beside the base that it reads; saved with its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.config.section import section
from trainer.errors import ConfigError

ALIGNERS = ("lst", "lst_plus", "lld")
_REDUCTION = {"lst": 16, "lst_plus": 4}
_LARGEST_HEAD = 64
_SIZES = {
    "plr": ("probe_width",),
    "rtb": ("bottleneck",),
    "lst": ("reduction", "every"),
    "lst_plus": ("reduction", "every"),
    "lld": ("last_layers",),
}  # which sizes an adapter has, by kind
_ALL_SIZES = tuple(dict.fromkeys(size for sizes in _SIZES.values() for size in sizes))


@section
class AdapterConfig:
    """A small network that reads the hidden states of the frozen base (arXiv 2506.00166); each kind reads only the sizes that
    it has.

    kind: `plr` a probe of the final state, `rtb` Res-Tuning-Bypass, `lst` Ladder Side-Tuning, `lst_plus` a wider ladder with
        cross-attention, `lld` a trainable copy of the last base blocks.
    probe_width: plr: units of its hidden layer; null is a linear probe.
    bottleneck: rtb: inner width of each T.
    reduction: lst, lst_plus: r, the base's width over the ladder's; null is 16 for lst and 4 for lst_plus.
    every: lst, lst_plus: read each n-th layer, counted back from the last.
    last_layers: lld: k, how many base blocks are copied.
    """

    kind: Literal["plr", "rtb", "lst", "lst_plus", "lld"]
    probe_width: int | None = Field(None, gt=0)
    bottleneck: int = Field(32, gt=0)
    reduction: int | None = Field(None, gt=0)
    every: int = Field(1, gt=0)
    last_layers: int = Field(2, gt=0)

    def problems(self, key: str) -> list[str]:
        """Sizes that were set and that an adapter of this kind does not have. `key`: where this section stands."""
        default = AdapterConfig(kind=self.kind)  # type: ignore[call-arg]  # mypy does not read pydantic's sections
        changed = [size for size in _ALL_SIZES if getattr(self, size) != getattr(default, size)]
        foreign = [size for size in changed if size not in _SIZES[self.kind]]
        return [f"{key}.{size}: an adapter of kind {self.kind} has no such size; remove it." for size in foreign]

    @property
    def width_over_ladder(self) -> int:
        """r of the ladders."""
        return self.reduction or _REDUCTION[self.kind]

    def ladder_width(self, hidden: int) -> int:
        """d' = d / r of a base of width d.

        Raises:
            ConfigError: r does not divide d, or d' is odd, which rotary positions do not allow.
        """
        reduction = self.width_over_ladder
        if hidden % reduction or hidden // reduction % 2:
            raise ConfigError(
                f"adapter {self.kind}: reduction {reduction} does not divide the base's width {hidden} into an even "
                "width; choose another reduction."
            )
        return hidden // reduction

    def ladder_layers(self, layers: int) -> list[int]:
        """Which of the hidden states h_1 .. h_L feed the ladder, ascending; h_L always does."""
        return list(range(layers, 0, -self.every))[::-1]


def head_size(width: int) -> int:
    """The largest even head size up to 64 that divides an even width."""
    return max(size for size in range(2, _LARGEST_HEAD + 1, 2) if width % size == 0)
