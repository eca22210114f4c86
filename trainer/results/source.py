"""A run as it is read, wherever from, before it is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Entry = Mapping[str, Any]  # value, ci95, n and perhaps missing, as in results.json
Curves = dict[tuple[str, str], dict[int, float]]  # (stage, name of what was logged) -> step -> value


@dataclass(frozen=True)
class Source:
    """Attributes:
    where: its directory, or where else it was read from.
    identity: the same for two readings of one run.
    roles: which of its models is `own`, `base`, and which are `untrained`, as in results.json.
    models: label -> metric, in the words of the vocabulary -> what was measured.
    curves: what its stages logged.
    responses: reads the lines of responses.jsonl; none where they are not known.
    """

    name: str
    where: str
    identity: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    roles: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Entry]]
    curves: Curves = field(default_factory=dict)
    responses: Callable[[], list[dict[str, Any]]] = list

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def facts(self) -> dict[str, Any]:
        """What was measured, by what and where; None is not known."""
        inputs = self.provenance.get("inputs", {})
        return {
            "base": self.config["model"].get("path"),
            "base_content": inputs.get("model.path", inputs.get("base")),
            "data": self.config["data"].get("format"),
            "benchmark": (self.config.get("evaluation") or {}).get("benchmark"),
            "judge": self.config["judge"].get("name"),
            "commit": self.provenance.get("git_commit"),
            "hardware": self.provenance.get("hardware"),
            "config": self.provenance.get("config_fingerprint"),
            "evaluated": self.provenance.get("finished"),
        }

    @property
    def method(self) -> str:
        return str(self.config["method"]["name"])
