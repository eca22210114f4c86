"""Low-rank additions to linear layers through hooks: W x + s B (A x), with W as it is. Works with sharded weights (ZeRO-3),
inside PEFT models, under `generate`, and lets gradients through to s and x.

r rank, B rows of a batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear

from trainer.errors import ArtifactError

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_BEFORE = "base_model.model."  # PEFT's name of the model inside
# What makes an adapter more than one low-rank product of one scale per layer.
_MORE = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "trainable_token_indices")


@dataclass(frozen=True)
class LowRank:
    """One addition dW = b a.

    Attributes:
        a: (r, in).
        b: (out, r), the adapter's scale in it.
    """

    a: Tensor
    b: Tensor

    @property
    def delta(self) -> Tensor:
        """dW (out, in), float32."""
        return self.b.float() @ self.a.float()


def read_adapter(directory: Path) -> dict[str, LowRank]:
    """Site (name of the linear layer) -> its addition, of a LoRA adapter in PEFT's format.

    Raises:
        ArtifactError: a file is missing or damaged, or it is another kind of adapter.
    """
    try:
        config = json.loads((directory / ADAPTER_CONFIG).read_text())
        tensors = load_file(directory / ADAPTER_WEIGHTS)
        if config["peft_type"] != "LORA":
            raise ValueError(f"it is of kind {config['peft_type']}")
        if more := [name for name in _MORE if config.get(name)]:
            raise ValueError(f"it has {', '.join(more)}")
        rank, alpha = config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(f"{directory}: holds no plain LoRA adapter ({error}); give the directory of one.") from error
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    sites = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {
        site.removeprefix(_BEFORE): LowRank(tensors[f"{site}.lora_A.weight"], tensors[f"{site}.lora_B.weight"] * scale)
        for site in sites
    }


@contextmanager
def low_rank_added(model: Any, additions: Mapping[str, LowRank], strength: Callable[[str], Tensor | float]) -> Iterator[None]:
    """Inside, every site adds `strength(site)` times its addition.

    Args:
        strength: a number, or one per row of the batch, (B,); asked in every forward pass.

    Raises:
        ArtifactError: the model has no such site, or one of another shape.
    """
    modules = dict(_inner(model).named_modules())
    handles = []
    try:
        for site, addition in additions.items():
            module = modules.get(site)
            module = getattr(module, "base_layer", module)  # PEFT puts its own around it
            check_site(site, module, addition)
            handles.append(module.register_forward_hook(_adding(site, addition, strength)))  # type: ignore[union-attr]
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_site(site: str, module: Any, addition: LowRank) -> None:
    """
    Raises:
        ArtifactError: this is no linear layer of the addition's shape.
    """
    wanted = (addition.b.shape[0], addition.a.shape[1])
    if not isinstance(module, nn.Linear):
        raise ArtifactError(f"adapter: the model has no linear layer {site}; it was made for another architecture.")
    if (found := (module.out_features, module.in_features)) != wanted:
        raise ArtifactError(
            f"adapter: {site} is {found} in the model and {wanted} in the adapter; it was made for another size."
        )


def _adding(site: str, addition: LowRank, strength: Callable[[str], Tensor | float]) -> Callable[..., Tensor]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x, by = args[0], strength(site)
        if isinstance(by, Tensor):
            by = by.to(output)
            by = by.reshape(-1, *[1] * (output.dim() - 1)) if by.dim() else by
        elif by == 0:
            return output
        return output + by * linear(linear(x, addition.a.to(x)), addition.b.to(x))

    return hook


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
