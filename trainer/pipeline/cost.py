"""What a stage takes of the machine: GPU-hours, or CPU-hours where there is no GPU; tokens; memory; energy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EARLIER = "cost"  # in a stage directory: what starts took that did not finish it, one file per rank


@dataclass(frozen=True)
class Cost:
    """Of one rank, or of all: see `total`.

    Attributes:
        device: the GPU's name, or `CPU` where none was used.
        gpu_hours: time that GPUs were held; None without them.
        cpu_hours: time that cores computed; None where GPUs were used.
        tokens: that training read, over all ranks; None where the stage counts none.
        peak_memory: GiB, of the rank with the highest: what torch had allocated on its GPU, or the process's resident set.
        energy: kWh of the GPUs; None where the device reports none.
    """

    device: str
    gpu_hours: float | None
    cpu_hours: float | None
    tokens: int | None
    peak_memory: float
    energy: float | None


def earlier(stage_dir: Path) -> list[Cost]:
    """What starts took that did not finish the stage; a line that was cut off is passed over."""
    found = []
    for path in sorted((stage_dir / EARLIER).glob("rank*.jsonl")):
        for line in path.read_text().splitlines():
            with suppress(ValueError, TypeError):
                found.append(Cost(**json.loads(line)))
    return found


def total(costs: Sequence[Cost]) -> Cost:
    """Of all ranks, starts or stages together: sums, and the highest memory. Where one kind of hours or of tokens is not known
    of any, the sum is None too; energy is None unless it is known of all that used GPUs."""

    def added(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    energies = [cost.energy for cost in costs if cost.gpu_hours is not None]
    return Cost(
        device=", ".join(dict.fromkeys(cost.device for cost in costs)),
        gpu_hours=added([cost.gpu_hours for cost in costs]),
        cpu_hours=added([cost.cpu_hours for cost in costs]),
        tokens=None if (tokens := added([cost.tokens for cost in costs])) is None else int(tokens),
        peak_memory=max(cost.peak_memory for cost in costs),
        energy=None if None in energies else added(energies),
    )
