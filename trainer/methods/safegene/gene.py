"""A gene on disk: a LoRA adapter in PEFT's format, and beside it where it came from and which layers are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from trainer.errors import ArtifactError
from trainer.methods.safegene.selection import layer_of
from trainer.models.low_rank import ADAPTER_CONFIG, ADAPTER_WEIGHTS, LowRank, check_site, read_adapter
from trainer.record import fingerprint_of, git_commit, hash_file, versions, write_json

FACTS = "gene.json"
_SHAPE = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "vocab_size",
)  # fmt: skip


def architecture_of(model: Any) -> dict[str, Any]:
    """What must be the same for an addition to mean the same."""
    config = model.config.get_text_config()
    return {name: getattr(config, name, None) for name in _SHAPE}


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Of the vocabulary: token -> id."""
    return fingerprint_of(sorted(tokenizer.get_vocab().items()))


@dataclass(frozen=True)
class Gene:
    """
    Attributes:
        additions: site -> dW; of all layers.
        layers: those that are kept.
        scores: c_l of every layer. chosen_by: the rule.
        architecture, tokenizer: what it fits.
        base_fingerprint: of the aligned model; provenance: run, seed, what was measured, commit, versions.
        sha256: of the adapter's weights.
    """

    additions: Mapping[str, LowRank] = field(repr=False)
    layers: list[int]
    scores: list[float]
    chosen_by: str
    architecture: dict[str, Any]
    tokenizer: str
    base_fingerprint: str
    provenance: dict[str, Any]
    sha256: str = ""

    def kept(self, layers: Sequence[int] | None = None) -> dict[str, LowRank]:
        """The additions of the kept layers, or of others."""
        wanted = set(self.layers if layers is None else layers)
        return {site: addition for site, addition in self.additions.items() if layer_of(site) in wanted}

    def save(self, adapter: Path, directory: Path) -> list[Path]:
        """Copies the adapter, writes gene.json, and returns the files."""
        for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
            shutil.copyfile(adapter / name, directory / name)
        facts = {name: value for name, value in self.__dict__.items() if name != "additions"}
        facts["sha256"] = hash_file(directory / ADAPTER_WEIGHTS)
        facts["provenance"] = {**self.provenance, "git_commit": git_commit(), "versions": versions()}
        write_json(directory / FACTS, facts)
        return [directory / name for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG, FACTS)]

    @classmethod
    def load(cls, directory: Path) -> Gene:
        """
        Raises:
            ArtifactError: a file is missing or damaged.
        """
        try:
            facts = json.loads((directory / FACTS).read_text())
            if facts["sha256"] != hash_file(directory / ADAPTER_WEIGHTS):
                raise ValueError(f"{ADAPTER_WEIGHTS} has other content than was written")
            return cls(additions=read_adapter(directory), **facts)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{directory}: holds no whole gene ({error}); give the stage `select` of a run.") from error

    def check(self, model: Any, tokenizer: Any) -> None:
        """
        Raises:
            ArtifactError: the model has another architecture, tokenizer or site; the text says which.
        """
        found = architecture_of(model)
        other = [
            f"{name} {found[name]} instead of {value}" for name, value in self.architecture.items() if found.get(name) != value
        ]
        if other:
            raise ArtifactError(
                f"gene: made for another architecture: the model has {', '.join(other)}; distil one for its family."
            )
        if tokenizer_fingerprint(tokenizer) != self.tokenizer:
            raise ArtifactError(
                "gene: made with another tokenizer: the same ids mean other words in this model; distil a gene for its family."
            )
        modules = dict(model.named_modules())
        for site, addition in self.additions.items():
            check_site(site, modules.get(site), addition)


def save_expressed(adapter: Path, additions: Mapping[str, LowRank], alpha: Mapping[int, float], directory: Path) -> list[Path]:
    """The gene in a task model as an ordinary PEFT adapter: alpha dW of the kept layers, its scale in B.

    Args:
        adapter: the gene's directory, whose fields of LoRA are kept.
        alpha: layer -> its scalar.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    tensors = {}
    for site, addition in additions.items():
        prefix = f"base_model.model.{site}"
        tensors[f"{prefix}.lora_A.weight"] = addition.a.contiguous()
        tensors[f"{prefix}.lora_B.weight"] = (alpha[layer_of(site)] * addition.b.float()).to(addition.b.dtype).contiguous()
    config |= {"target_modules": sorted(additions), "lora_alpha": config["r"], "use_rslora": False}
    write_json(directory / ADAPTER_CONFIG, config)
    save_file(tensors, directory / ADAPTER_WEIGHTS, {"format": "pt"})
    return [directory / ADAPTER_CONFIG, directory / ADAPTER_WEIGHTS]
