"""Guardrails and aligners on disk, bound to the base that they read, and several of them beside one base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainer.errors import ArtifactError, ConfigError
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.names import FACTS, WEIGHTS
from trainer.models.finite import ruined
from trainer.record import hash_file, write_json


def save(adapter: Guardrail | Aligner, directory: Path, base_fingerprint: str) -> list[Path]:
    """Writes adapter.safetensors and adapter.json, and returns their paths. The weights must be whole, not ZeRO-3 shards."""
    weights = {name: value.detach().cpu().contiguous() for name, value in adapter.state_dict().items()}
    save_file(weights, directory / WEIGHTS)
    guardrail = isinstance(adapter, Guardrail)
    facts = {
        "role": "guardrail" if guardrail else "aligner",
        "config": asdict(adapter.adapter.config),  # type: ignore[call-overload]  # pydantic's are dataclasses
        "labels": list(adapter.labels) if isinstance(adapter, Guardrail) else None,
        "tau": adapter.tau if isinstance(adapter, Guardrail) else None,
        "base_fingerprint": base_fingerprint,
        "sha256": hash_file(directory / WEIGHTS),
    }
    write_json(directory / FACTS, facts)
    return [directory / WEIGHTS, directory / FACTS]


def load(directory: Path, model: Any, base_fingerprint: str) -> Guardrail | Aligner:
    """What `save` wrote, in evaluation mode, on the device of the base.

    Args:
        model: the base.

    Raises:
        ArtifactError: a file is missing, damaged or not finite, or the adapter was trained on another base.
    """
    try:
        facts = json.loads((directory / FACTS).read_text())
        role, found, labels, tau = facts["role"], facts["base_fingerprint"], facts["labels"], facts["tau"]
        config = AdapterConfig(**facts["config"])
        if role not in ("guardrail", "aligner"):
            raise ValueError(f"its role is {role}")
        if facts["sha256"] != hash_file(directory / WEIGHTS):
            raise ValueError(f"{WEIGHTS} has other content than was written")
        weights = load_file(directory / WEIGHTS)
        if bad := ruined(weights.items()):
            raise ValueError(f"{bad[0]} is not finite")
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise ArtifactError(f"{directory}: holds no whole adapter ({error!r}); train it again.") from error
    if found != base_fingerprint:
        raise ArtifactError(
            f"{directory}: this {role} was trained on the base {found}, and the model is {base_fingerprint}; an adapter "
            "fits only its own base, so train it again."
        )
    made: Guardrail | Aligner = make_guardrail(config, model, labels) if role == "guardrail" else make_aligner(config, model)
    if isinstance(made, Guardrail):
        made.tau = tau
    try:
        made.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ArtifactError(f"{directory}: the weights are not those of its {FACTS}: {error}; train it again.") from error
    return made.to(model.device).eval()


class Adapters(nn.ModuleDict):
    """Guardrails and at most one aligner of one base, by name. All read the same forward pass.

    Raises:
        ConfigError: there are several aligners.
    """

    def __init__(self, adapters: Mapping[str, Guardrail | Aligner]):
        super().__init__(adapters)
        aligners = [name for name, adapter in adapters.items() if isinstance(adapter, Aligner)]
        if len(aligners) > 1:
            raise ConfigError(f"adapters: {', '.join(aligners)} are all aligners, and only one can be mixed in; name one.")

    @classmethod
    def load(cls, directories: Mapping[str, Path], model: Any, base_fingerprint: str) -> Adapters:
        """Those at `directories`; raises as `load` and the class."""
        return cls({name: load(directory, model, base_fingerprint) for name, directory in directories.items()})

    @property
    def aligner(self) -> Aligner | None:
        return next((adapter for adapter in self.values() if isinstance(adapter, Aligner)), None)

    @property
    def guardrails(self) -> dict[str, Guardrail]:
        return {name: adapter for name, adapter in self.items() if isinstance(adapter, Guardrail)}

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """The logits of every guardrail by name, each (B, K) of its own labels; arguments as of `Guardrail`."""
        return {name: guardrail(hidden, attention_mask, positions) for name, guardrail in self.guardrails.items()}
