"""The base's hidden states on disk: computed once, read in every epoch by every guardrail (arXiv 2506.00166).

T tokens of one text, K labels, d hidden size, L layers. h_0 (embeddings) .. h_L are the base's hidden states.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainer.errors import ArtifactError, ConfigError
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.examples import LABELS, Example
from trainer.record import hash_files

GB = 10**9
FILES = "rank*.safetensors"
SHARD = 256 << 20  # bytes of a file, about


def layers_read(config: AdapterConfig, layers: int) -> list[int]:
    """Which of h_0 .. h_L an adapter reads, ascending."""
    match config.kind:
        case "plr":
            return [layers]
        case "rtb":
            return list(range(layers + 1))
        case "lld":
            return [layers - config.last_layers]
        case _:
            return [0, *config.ladder_layers(layers)]


def reads_labels_only(config: AdapterConfig) -> bool:
    """Whether an adapter looks only at the tokens where a label is read."""
    return config.kind in ("plr", "rtb")


@dataclass(frozen=True)
class Wanted:
    """What is kept: hidden states of every token, and those of the tokens where a label is read.

    Attributes:
        tokens, labels: layers, ascending.
        names: the labels.
    """

    tokens: list[int]
    labels: list[int]
    names: tuple[str, ...]

    @classmethod
    def by(cls, adapters: Iterable[AdapterConfig], layers: int, names: tuple[str, ...]) -> Wanted:
        """What these adapters of a base of L layers read."""
        tokens: set[int] = set()
        labels: set[int] = set()
        for config in adapters:
            (labels if reads_labels_only(config) else tokens).update(layers_read(config, layers))
        return cls(sorted(tokens), sorted(labels - tokens), names)

    def size(self, examples: Sequence[Example], hidden: int, itemsize: int) -> int:
        """Bytes."""
        tokens = sum(len(example.ids) for example in examples)
        return hidden * itemsize * (tokens * len(self.tokens) + len(examples) * len(self.names) * len(self.labels))

    def places(self, example: Example) -> list[int]:
        return [example.positions[LABELS.index(name)] for name in self.names]


def check_budget(size: int, budget: float) -> None:
    """
    Raises:
        ConfigError: `size` bytes are more than `budget` GB.
    """
    if size > budget * GB:
        raise ConfigError(
            f"method.feature_cache: the hidden states take {size / GB:.3g} GB, more than the {budget:g} allowed; raise it, use "
            "fewer rows or guardrails that read less (plr, rtb, every), or set it to null."
        )


class FeatureWriter:
    """Collects the hidden states of one rank's rows and writes them in files of about 256 MiB. Attribute written: the files."""

    def __init__(self, directory: Path, rank: int, examples: Sequence[Example], wanted: Wanted):
        self.directory, self.rank, self.examples, self.wanted = directory, rank, examples, wanted
        self.written: list[Path] = []
        self._rows: list[int] = []
        self._parts: dict[str, list[Tensor]] = {}
        self._bytes = 0

    def add(self, row: int, hidden: Sequence[Tensor]) -> None:
        """h_0 .. h_L of one row, each (T or more, d): padding on the right is cut."""
        example = self.examples[row]
        for layer in self.wanted.tokens:
            self._keep(f"tokens.{layer}", hidden[layer][: len(example.ids)])
        for layer in self.wanted.labels:
            self._keep(f"labels.{layer}", hidden[layer][self.wanted.places(example)])
        self._rows.append(row)
        if self._bytes >= SHARD:
            self.flush()

    def _keep(self, name: str, states: Tensor) -> None:
        self._parts.setdefault(name, []).append(states.cpu())
        self._bytes += states.nbytes

    def flush(self) -> None:
        """Writes what is left."""
        if not self._rows:
            return
        tensors = {name: torch.cat(parts) for name, parts in self._parts.items()}
        path = self.directory / f"rank{self.rank}-{len(self.written)}.safetensors"
        save_file(tensors, path, metadata={"rows": json.dumps(self._rows)})
        self.written.append(path)
        self._rows, self._parts, self._bytes = [], {}, 0


def check_files(directory: Path, written: Mapping[str, str]) -> None:
    """
    Args:
        written: file -> SHA-256, of all that was written there.

    Raises:
        ArtifactError: what is there is not that.
    """
    files = sorted(directory.glob(FILES))
    found = dict(zip((path.name for path in files), hash_files(files), strict=True))
    if other := sorted(name for name in found.keys() | written.keys() if found.get(name) != written.get(name)):
        raise ArtifactError(
            f"{directory}: {', '.join(other[:3])} changed or vanished since the hidden states were written; "
            f"delete {directory} to redo the stage."
        )


class Features:
    """What one adapter reads, from the files of a `FeatureWriter` of every rank.

    Attribute at_labels: whether these are only the hidden states where a label is read.

    Raises:
        ArtifactError: a file is missing or damaged.
    """

    def __init__(self, directory: Path, examples: Sequence[Example], wanted: Wanted, config: AdapterConfig, layers: int):
        self.directory, self.wanted, self.layers = directory, wanted, layers
        self.examples, self.read = examples, layers_read(config, layers)
        self.at_labels = reads_labels_only(config)
        self._where: dict[int, tuple[Any, int, int]] = {}  # row -> file, first token, number in the file
        try:
            for path in sorted(directory.glob(FILES)):
                self._index(safe_open(path, framework="pt"))
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise self._damaged(str(error)) from error
        if missing := len(examples) - len(self._where):
            raise self._damaged(f"{missing} rows are missing")

    def _index(self, file: Any) -> None:
        token = 0
        for number, row in enumerate(json.loads(file.metadata()["rows"])):
            self._where[row] = (file, token, number)
            token += len(self.examples[row].ids)

    def batch(self, rows: Sequence[int]) -> list[Tensor]:
        """h_0 .. h_L, each (B, T, d) and padded on the right, or (B, K, d) where `at_labels`; d is 0 where it is not read."""
        try:
            kept = {layer: pad_sequence([self._one(row, layer) for row in rows], batch_first=True) for layer in self.read}
        except (OSError, SafetensorError) as error:
            raise self._damaged(str(error)) from error
        nothing = next(iter(kept.values()))[..., :0]
        return [kept.get(layer, nothing) for layer in range(self.layers + 1)]

    def _one(self, row: int, layer: int) -> Tensor:
        file, token, number = self._where[row]
        count, example = len(self.wanted.names), self.examples[row]
        if layer in self.wanted.labels:
            kept: Tensor = file.get_slice(f"labels.{layer}")[number * count : (number + 1) * count]
            return kept
        states: Tensor = file.get_slice(f"tokens.{layer}")[token : token + len(example.ids)]
        return states[self.wanted.places(example)] if self.at_labels else states

    def _damaged(self, why: str) -> ArtifactError:
        return ArtifactError(f"{self.directory}: the hidden states cannot be read ({why}); delete it to redo the stage.")
