"""What an adapter is, beside the base that it reads; saved with its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trainer.errors import ConfigError

KINDS = ("plr", "rtb", "lst", "lst_plus", "lld")
ALIGNERS = ("lst", "lst_plus", "lld")
_REDUCTION = {"lst": 16, "lst_plus": 4}
_LARGEST_HEAD = 64


@dataclass(frozen=True)
class AdapterConfig:
    """Kind and sizes of an adapter; each kind reads only the sizes that it has.

    Attributes:
        kind: `plr` probe, `rtb` Res-Tuning-Bypass, `lst` Ladder Side-Tuning, `lst_plus` the wider ladder with
            cross-attention, `lld` a trainable copy of the last base blocks.
        probe_width: plr: units of its hidden layer; None is a linear probe.
        bottleneck: rtb: inner width of each T.
        reduction: lst, lst_plus: r, the base's width over the ladder's; None is 16 for lst and 4 for lst_plus.
        every: lst, lst_plus: read each n-th layer, counted back from the last.
        last_layers: lld: k, how many base blocks are copied.

    Raises:
        ConfigError: the kind is unknown, or a size is below 1.
    """

    kind: str
    probe_width: int | None = None
    bottleneck: int = 32
    reduction: int | None = None
    every: int = 1
    last_layers: int = 2

    @classmethod
    def of(cls, section: Any) -> AdapterConfig:
        """The same sizes as a config's `AdapterSection`."""
        return cls(**asdict(section))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"adapter kind {self.kind}: unknown; known: {', '.join(KINDS)}.")
        if self.reduction is None:
            object.__setattr__(self, "reduction", _REDUCTION.get(self.kind))
        sizes = {name: value for name, value in vars(self).items() if name != "kind" and value is not None}
        if wrong := [f"{name}={value}" for name, value in sizes.items() if value < 1]:
            raise ConfigError(f"adapter {self.kind}: {', '.join(wrong)}: sizes are at least 1.")

    def ladder_width(self, hidden: int) -> int:
        """d' = d / r of a base of width d.

        Raises:
            ConfigError: r does not divide d, or d' is odd, which rotary positions do not allow.
        """
        assert self.reduction is not None  # set for the ladders
        if hidden % self.reduction or hidden // self.reduction % 2:
            raise ConfigError(
                f"adapter {self.kind}: reduction {self.reduction} does not divide the base's width {hidden} into an even "
                "width; choose another reduction."
            )
        return hidden // self.reduction

    def ladder_layers(self, layers: int) -> list[int]:
        """Which of the hidden states h_1 .. h_L feed the ladder, ascending; h_L always does."""
        return list(range(layers, 0, -self.every))[::-1]


def head_size(width: int) -> int:
    """The largest even head size up to 64 that divides an even width."""
    return max(size for size in range(2, _LARGEST_HEAD + 1, 2) if width % size == 0)
