"""What stages depend on, by name: parts of the config, and files outside the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config.datasets import dataset_place
from trainer.config.fields import DEEPSPEED_WITHOUT_EFFECT, WITHOUT_EFFECT
from trainer.config.models import model_place
from trainer.config.run import DATASETS, RunConfig, outside, to_mapping
from trainer.config.training import SECTIONS


def effective(values: dict[str, Any]) -> dict[str, Any]:
    """A config without what cannot change a result: how often is logged and saved, who loads data, what only `plan` reads."""
    kept = {**values, "model": {key: value for key, value in values["model"].items() if key != "shape"}}
    for name in ("trainer", *SECTIONS):
        kept[name] = {key: value for key, value in values.get(name, {}).items() if key not in WITHOUT_EFFECT}
    if (json := values.get("deepspeed")) is not None:
        kept["deepspeed"] = {key: value for key, value in json.items() if key not in DEEPSPEED_WITHOUT_EFFECT}
    return kept


@dataclass(frozen=True)
class Depends:
    config: RunConfig

    def settings(self, *sections: str, **others: Any) -> dict[str, Any]:
        """Whole sections of the config, and other values."""
        values = effective(to_mapping(self.config))
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
            return name if (place := dataset_place(name)) is None else str(place.path)
        revision = self.config.model.revision if key == "model.path" else None
        place_of_model = model_place(name, revision=revision)
        return f"{name}@{revision}" if revision is not None and place_of_model == name else place_of_model
