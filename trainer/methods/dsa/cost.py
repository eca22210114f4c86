"""What an adapter costs: parameters, and floating-point operations per token, counted from the sizes.

A matrix of P weights costs 2 P operations per token. Attention of width w costs 4 T w per token at length T: every token is
counted against all T, as PyTorch's counter does. Norms, gates and activations are left out of the operations.

d hidden size, L layers, V vocabulary, w = d / r width of a ladder, b bottleneck, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.base import BaseSizes


@dataclass(frozen=True)
class Cost:
    """parameters, and flops: operations per token of the forward pass."""

    parameters: int
    flops: int


def ladder_block_parameters(width: int, cross: bool = False) -> int:
    """Of one block of a side network: 12 w^2 (16 w^2 with cross-attention), and its norms."""
    return (16 if cross else 12) * width**2 + (6 if cross else 4) * width


def adapter_parameters(config: AdapterConfig, hidden: int, layers: int, block_parameters: int = 0) -> int:
    """Those that are trained, without head or up-projection.

    Args:
        block_parameters: lld: of one block of the base.
    """
    match config.kind:
        case "plr":
            return 0 if config.probe_width is None else (hidden + 1) * config.probe_width
        case "rtb":
            return layers * (4 * hidden * config.bottleneck + 1) + 2 * hidden
        case "lld":
            return config.last_layers * block_parameters
        case kind:
            width, depth = config.ladder_width(hidden), len(config.ladder_layers(layers))
            block = ladder_block_parameters(width, cross=kind == "lst_plus")
            return depth * (block + hidden * width + 1) + hidden * width + 2 * width


def adapter_flops(config: AdapterConfig, base: BaseSizes, length: int) -> int:
    """A token, at a length of T tokens. Guardrails of kind plr and rtb spend it only at the positions that they read."""
    match config.kind:
        case "plr":
            return 2 * base.hidden * (config.probe_width or 0)
        case "rtb":
            return 2 * base.layers * 4 * base.hidden * config.bottleneck
        case "lld":
            return config.last_layers * _base_block_flops(base, length)
        case kind:
            width, depth = config.ladder_width(base.hidden), len(config.ladder_layers(base.layers))
            matrices, attentions = (16, 2) if kind == "lst_plus" else (12, 1)
            block = 2 * matrices * width**2 + attentions * 4 * length * width
            return depth * (block + 2 * base.hidden * width) + 2 * base.hidden * width


def guardrail_cost(config: AdapterConfig, base: BaseSizes, labels: int, length: int) -> Cost:
    """With its head. The head's operations are left out: it runs once per label, not once per token."""
    if config.kind in ("plr", "rtb", "lld"):
        width = base.hidden if config.kind != "plr" else config.probe_width or base.hidden
    else:
        width = config.ladder_width(base.hidden)
    parameters = adapter_parameters(config, base.hidden, base.layers, base.block_parameters) + (width + 1) * labels
    return Cost(parameters, adapter_flops(config, base, length))


def aligner_cost(config: AdapterConfig, base: BaseSizes, length: int) -> Cost:
    """With its up-projection, and the second use of the LM head, which has no parameters of its own."""
    up = 0 if config.kind == "lld" else base.hidden * config.ladder_width(base.hidden)
    parameters = adapter_parameters(config, base.hidden, base.layers, base.block_parameters) + up
    return Cost(parameters, adapter_flops(config, base, length) + 2 * up + 2 * base.hidden * base.vocabulary)


def base_cost(base: BaseSizes, length: int) -> Cost:
    """Of the base itself, its LM head included, all of whose blocks are taken to be like the last."""
    flops = base.layers * _base_block_flops(base, length) + 2 * base.hidden * base.vocabulary
    return Cost(base.parameters, flops)


def _base_block_flops(base: BaseSizes, length: int) -> int:
    return 2 * base.block_matrices + 4 * length * base.query
