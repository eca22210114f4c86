"""Several data sets as one, in stated proportions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from trainer.config.bases import DataSection
from trainer.config.paths import PLAIN_NAME
from trainer.config.section import OneOf, section
from trainer.data.formats.pairs import DemonstrationData
from trainer.data.mixing import Strategy, epoch_counts, mixed, shares_of
from trainer.data.preferences import Preferences
from trainer.errors import DataError

if TYPE_CHECKING:
    from trainer.config.run import RunConfig

T = TypeVar("T")
_OF_ALL = ("max_prompt_length", "overlong", "validation", "validation_split")  # keys of a mixture, and of no part


@section
class Part:
    """One data set of a mixture.

    data: any data of pairs or of replies to imitate, with its keys.
    weight: its share of an epoch is this, over the sum of all weights.
    """

    data: Annotated[DemonstrationData, OneOf("parts")]
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


@section
class MixtureData(DemonstrationData):
    """Data sets that are trained on together. Weights are proportions of the examples of an epoch, whatever the sizes.

    parts: name -> data set and weight.
    stopping_strategy: `first_exhausted`: an epoch ends where going on would repeat an example, so that the part which is
        smallest for its weight is used up, and of the others some rows are left out. `all_exhausted`: an epoch has every
        example, and those of smaller parts again.
    limit: of the examples of an epoch, all parts together; `limit` of a part is which of its rows are used.
    """

    format: Literal["mixture"]
    parts: dict[str, Part] = Field(default_factory=dict)
    stopping_strategy: Strategy = "first_exhausted"

    @property
    def makes_its_own(self) -> bool:  # type: ignore[override]  # of other data its class says it
        return any(part.data.makes_its_own for part in self.parts.values())

    @property
    def is_here(self) -> bool:
        return all(part.data.is_here for part in self.parts.values())

    @property
    def shares(self) -> Mapping[str, float]:
        return {name: float(share) for name, share in shares_of(self._weights).items()}

    @property
    def _weights(self) -> dict[str, float]:
        return {name: part.weight for name, part in self.parts.items()}

    def gives(self, kind: type[DataSection]) -> bool:
        return issubclass(kind, DemonstrationData) and all(part.data.gives(kind) for part in self.parts.values())

    def read(self, seed: int, on_prompt: Callable[[], object] = lambda: None) -> Preferences:
        """All that the parts have, each row with the name of its part."""
        found = Preferences()
        for name, part in self.parts.items():
            of_part = part.data.read(seed, on_prompt)
            if not of_part.pairs:
                raise DataError(f"data.parts.{name}: no usable row among {of_part.rows}; left out: {dict(of_part.dropped)}.")
            found.pairs += [replace(pair, part=name) for pair in of_part.pairs]
            found.rows += of_part.rows
            found.dropped += Counter({f"{reason} in {name}": count for reason, count in of_part.dropped.items()})
        return found

    def epoch(self, examples: Mapping[str, Sequence[T]], seed: int) -> list[T]:
        """
        Raises:
            DataError: a part has no example left, or is so small a share that an epoch has none of it.
        """
        return mixed(examples, self._counts({name: len(of_part) for name, of_part in examples.items()}), seed)

    def told(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        counts = self._counts(sizes)
        return {name: {"share": self.shares[name], "has": sizes[name], "in_an_epoch": counts[name]} for name in self.parts}

    def _counts(self, sizes: Mapping[str, int]) -> dict[str, int]:
        if lost := [name for name in self.parts if not sizes.get(name)]:
            raise DataError(f"data.parts.{lost[0]}: no example of it is left to train on; give it more rows, or take it out.")
        counts = epoch_counts(sizes, self._weights, self.stopping_strategy, self.limit)
        if lost := [name for name, count in counts.items() if not count]:
            raise DataError(
                f"data.parts.{lost[0]}: an epoch of {sum(counts.values())} examples has none of it; raise its weight or "
                "data.limit, or set data.stopping_strategy=all_exhausted."
            )
        return counts

    def problems(self, key: str, config: RunConfig, base_dir: Path) -> list[str]:
        problems = super().problems(key, config, base_dir)
        unset = MixtureData(format="mixture")  # type: ignore[call-arg]  # mypy does not read pydantic's sections
        if len(self.parts) < 2:
            problems.append(f"{key}.parts: name at least two: {key}.parts.NAME.data.format=FORMAT and what goes with it.")
        for name, part in self.parts.items():
            if not PLAIN_NAME.match(name):
                problems.append(f"{key}.parts.{name}: must be a plain name (letters, digits, _ and -).")
            problems += [
                f"{key}.parts.{name}.data.{of_all}: is one for the whole mixture; set {key}.{of_all}."
                for of_all in _OF_ALL
                if getattr(part.data, of_all) != getattr(unset, of_all)
            ]
            problems += part.data.problems(f"{key}.parts.{name}.data", config, base_dir)
        return problems

    def reads(self) -> dict[str, str | None]:
        return {
            f"parts.{name}.data.{key}": path for name, part in self.parts.items() for key, path in part.data.reads().items()
        }
