"""What stages depend on, by name: parts of the config, and files outside the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.models import model_place
from trainer.config.paths import looks_local
from trainer.config.run import DATASETS, RunConfig, outside, to_mapping


@dataclass(frozen=True)
class Depends:
    config: RunConfig

    def settings(self, *sections: str, **others: Any) -> dict[str, Any]:
        """Whole sections of the config, and other values."""
        values = to_mapping(self.config)
        del values["model"]["shape"]  # only `plan` reads it
        return {"seed": self.config.seed, **{name: values[name] for name in sections}, **others}

    @property
    def start(self) -> tuple[str, ...]:
        """The stages that make the base model of the run."""
        return () if self.config.model.random_init is None else ("base",)

    def reads(self, *prefixes: str) -> dict[str, str]:
        """What config keys with these beginnings name: a path where that is on this machine, or the hub's name, as
        `name@revision` where one is asked for. A shipped base counts by its content too: another version of it is another
        model."""
        found = {key: name for key, name in outside(self.config).items() if key.startswith(prefixes)}
        return {key: self._place(key, name) for key, name in found.items()}

    def _place(self, key: str, name: str) -> str:
        if key.startswith(DATASETS):
            return str(Path(name).expanduser()) if looks_local(name) else name
        if key == "model.path" and self.config.model.revision is not None:
            return f"{name}@{self.config.model.revision}"
        return model_place(name)
