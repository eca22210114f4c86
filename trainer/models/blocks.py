"""Reading and changing the residual stream of any decoder-only causal language model, through hooks on its blocks.

B batch, T tokens, H hidden size, L blocks. The hooks see activations only, never weights: they work with sharded weights
(ZeRO-3), adapters, `generate` and its KV cache. Hooks run in the order of the `with` statements, outermost first.

Gradients pass through. With gradient checkpointing, transformers recomputes what is inside a block: `steered` acts
before that and may end before the backward pass, `ablated` may not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainer.errors import ConfigError

_BAKE_ROWS, _BAKE_TOKENS = 4, 32  # random token ids on which a bias is compared with steering


def decoder_blocks(model: Any) -> nn.ModuleList:
    """The L decoder blocks, first to last: the one list of that length whose members take hidden states.

    Raises:
        ConfigError: no list fits, or several do.
    """
    count = model.config.get_text_config().num_hidden_layers
    fitting = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and all(_takes(m, "hidden_states") for m in module)
    }
    outermost = [fitting[name] for name in fitting if not any(name.startswith(f"{other}.") for other in fitting)]
    if len(outermost) != 1:
        raise ConfigError(
            f"model: {_name(model)} has {len(outermost)} lists of {count} modules that take hidden states, so its decoder "
            "blocks cannot be told; use a decoder-only causal language model."
        )
    return outermost[0]


@contextmanager
def steered(model: Any, layer: int, vector: Tensor) -> Iterator[None]:
    """Adds `vector` (H,) to the input of block `layer` (from 0) at every position.

    Raises:
        ConfigError: the model has no such block, or another hidden size.
    """
    block = _block(model, layer, vector)
    with _removed([_on_input(block, lambda hidden: hidden + vector.to(hidden))]):
        yield


@contextmanager
def ablated(model: Any, unit: Tensor) -> Iterator[None]:
    """Removes the component along `unit` (H,), which need not have length one, from the input of every block and from the
    output of every block's attention and MLP.

    The attention is the child of a block whose `forward` takes an attention mask. The MLP is every other child that is
    itself made of modules; norms, dropouts and activations are not.

    Raises:
        ConfigError: a block has no such attention or no such MLP.
    """

    def without(hidden: Tensor) -> Tensor:
        exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        direction = unit.to(exact)
        direction = direction / direction.norm()
        return (exact - (exact @ direction)[..., None] * direction).to(hidden.dtype)

    blocks = decoder_blocks(model)
    writers = [writer for block in blocks for writer in _attention_and_mlp(block)]
    with _removed([_on_input(block, without) for block in blocks] + [_on_output(writer, without) for writer in writers]):
        yield


@contextmanager
def recorded_inputs(model: Any, pick: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Yields a list that holds, after each forward pass, what `pick` returned for the input (B, T, H) of each block."""
    blocks = decoder_blocks(model)
    records = [torch.empty(0)] * len(blocks)

    def recorder(index: int) -> Callable[[Tensor], Tensor]:
        def record(hidden: Tensor) -> Tensor:
            records[index] = pick(hidden)
            return hidden

        return record

    with _removed([_on_input(block, recorder(index)) for index, block in enumerate(blocks)]):
        yield records


def bake(model: Any, layer: int, vector: Tensor) -> bool:
    """Makes a model do without hooks what it does inside `steered`: adds `vector` (H,) to the bias of the last projection in
    the MLP of the block before, which is created where there is none. The weights must be whole, not ZeRO-3 shards.

    Whether this is the same as steering is measured, on random token ids, before anything is changed.

    Returns:
        Whether plain transformers loads the model, once saved, with that bias. Where the architecture has no such bias,
        saving loses it.

    Raises:
        ConfigError: there is no such projection, or it does not act as steering does; the model is then unchanged.
    """
    _block(model, layer, vector)
    if layer == 0:
        raise ConfigError("bake: layer 0 has no block before it that could carry the direction; use hooks (`steered`).")
    blocks = decoder_blocks(model)
    projection = _last_projection(blocks[layer - 1], len(vector))
    if projection is None:
        raise ConfigError(
            f"bake: the MLP of a {type(blocks[layer - 1]).__name__} does not end in a linear layer of the hidden size, so no "
            "bias can carry the direction; use hooks (`steered`)."
        )
    tolerance = torch.finfo(projection.weight.dtype).eps ** 0.5  # rounding; averaged over positions it is far below this
    if (error := _error_of_bias(model, layer, projection, vector)) > tolerance:
        raise ConfigError(
            f"bake: a bias in the MLP of a {type(blocks[layer - 1]).__name__} does not reach the next block as it is, but "
            f"scaled or normed (relative error {error:.2g}), so it cannot carry the direction; use hooks (`steered`)."
        )
    _add_bias(projection, vector)
    config = model.config.get_text_config()
    if hasattr(config, "mlp_bias"):  # one switch for every projection of every MLP
        config.mlp_bias = True
        for block in blocks:
            for linear in _mlp_linears(block):
                _add_bias(linear, torch.zeros(linear.out_features))
    with torch.device("meta"):
        fresh = type(_inner(model))(model.config)
    return bool(fresh.state_dict().keys() == model.state_dict().keys())


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _name(model: Any) -> str:
    return type(_inner(model)).__name__


def _takes(module: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(module.forward).parameters


def _block(model: Any, layer: int, vector: Tensor) -> nn.Module:
    blocks, hidden = decoder_blocks(model), model.config.get_text_config().hidden_size
    if not 0 <= layer < len(blocks) or vector.shape != (hidden,):
        raise ConfigError(
            f"a direction of shape {tuple(vector.shape)} at layer {layer} does not fit {_name(model)}, which has "
            f"{len(blocks)} layers of {hidden}; take the direction that was found for this model."
        )
    return blocks[layer]


def _attention_and_mlp(block: nn.Module) -> list[nn.Module]:
    attention = [child for child in block.children() if _takes(child, "attention_mask")]
    mlp = _mlps(block)
    if not attention or not mlp:
        raise ConfigError(
            f"model: a {type(block).__name__} has {len(attention)} attention modules and {len(mlp)} MLP modules among its "
            "children; a direction can be ablated only where it has both."
        )
    return attention + mlp


def _mlps(block: nn.Module) -> list[nn.Module]:
    return [child for child in block.children() if not _takes(child, "attention_mask") and list(child.children())]


def _mlp_linears(block: nn.Module) -> list[nn.Linear]:
    return [linear for mlp in _mlps(block) for linear in mlp.children() if isinstance(linear, nn.Linear)]


def _last_projection(block: nn.Module, hidden: int) -> nn.Linear | None:
    linears = _mlp_linears(block)
    return linears[-1] if linears and linears[-1].out_features == hidden else None


def _add_bias(linear: nn.Linear, vector: Tensor) -> None:
    old = torch.zeros_like(linear.weight[:, 0]) if linear.bias is None else linear.bias.detach()
    linear.bias = nn.Parameter((old + vector.to(old)), requires_grad=linear.weight.requires_grad)


def _error_of_bias(model: Any, layer: int, projection: nn.Linear, vector: Tensor) -> float:
    """How far the input of block `layer` moves from where steering would move it, relative to the length of `vector`."""
    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (_BAKE_ROWS, _BAKE_TOKENS), generator=generator).to(model.device)
    was_training = model.training
    model.eval()

    def block_input() -> Tensor:
        with torch.no_grad(), recorded_inputs(model, lambda hidden: hidden.double()) as records:
            model(input_ids=ids, use_cache=False)
        return records[layer]

    plain = block_input()
    with _removed([_on_output(projection, lambda output: output + vector.to(output))]):
        moved = (block_input() - plain).mean((0, 1))
    model.train(was_training)
    return float((moved - vector.to(moved)).norm() / vector.to(moved).norm())


def _on_input(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _on_output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return module.register_forward_hook(hook)


@contextmanager
def _removed(handles: list[Any]) -> Iterator[None]:
    """Removes hooks at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
