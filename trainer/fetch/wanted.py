"""What a run reads from outside, and where that is or has to come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.mirror import Kind
from trainer.config.packaged import PACKAGED
from trainer.config.paths import looks_local
from trainer.config.run import DATASETS, RunConfig, outside
from trainer.config.shipped import SHIPPED


@dataclass(frozen=True)
class Wanted:
    """Attributes:
    keys: of the config, that name it.
    name: as they do; kind: what it would be in a mirror.
    repository: its name on the hub, less the subset; None where it is no name of the hub.
    weights: of a model: whether more than its tokenizer is read.
    """

    keys: tuple[str, ...]
    name: str
    kind: Kind
    repository: str | None
    revision: str | None = None
    weights: bool = True

    @property
    def subset(self) -> str | None:
        return self.name.partition(":")[2] or None if self.kind == "datasets" else None

    @property
    def what(self) -> str:
        """What of its repository."""
        if self.kind == "datasets":
            return self.name
        return str(self.repository) if self.weights else f"the tokenizer of {self.repository}"

    def covered(self, covers: Sequence[str]) -> bool:
        """Whether it is among what was brought of its repository."""
        return self.what in covers or (not self.weights and self.repository in covers)


def wanted(config: RunConfig) -> list[Wanted]:
    """All that the run reads, but for what ships with the package; once each."""
    found: dict[Wanted, list[str]] = {}
    for key, name in outside(config).items():
        if key.startswith(DATASETS):
            one = Wanted((), name, "datasets", None if looks_local(name) else name.partition(":")[0])
        elif name in SHIPPED:
            continue
        else:
            hub = PACKAGED[name].hub if name in PACKAGED else None if looks_local(name) else name
            revision = config.model.revision if key == "model.path" else None
            one = Wanted((), name, "models", hub, revision, weights=key != "model.tokenizer")
        found.setdefault(one, []).append(key)
    return [Wanted(tuple(keys), w.name, w.kind, w.repository, w.revision, w.weights) for w, keys in found.items()]
