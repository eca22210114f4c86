"""LLD: a trainable copy of the last k base blocks, fed by h_{L-k}, under the base's final norm (arXiv 2506.00166).

B batch, T new tokens, S all tokens so far, d hidden size, L layers.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from trainer.errors import ConfigError
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.adapters import Adapter
from trainer.methods.dsa.base import is_causal, read, token_positions
from trainer.models.blocks import decoder_blocks
from trainer.models.shards import is_sharded, whole

_ROWS, _TOKENS = 2, 16  # random token ids on which the copy is compared with the base


class LastLayers(Adapter):
    """The base's own backbone, cut down to copies of its last k blocks and frozen but for them. Features: the state that the
    LM head reads, (B, T, d); at start h_L itself.

    `model` is the transformers model itself. Under ZeRO-3 make it before the DeepSpeed engine of the base; the copy is whole.

    Raises:
        ConfigError: the base is an encoder, has fewer than k blocks, or does more with its input embeddings than feed them
            to its first block (GPT-2 adds positions there), so that its backbone cannot start at h_{L-k}.
    """

    def __init__(self, config: AdapterConfig, model: Any):
        text = model.config.get_text_config()
        super().__init__(config, text.hidden_size, causal=True)
        self.entry = text.num_hidden_layers - config.last_layers  # the hidden state that enters the first copied block
        if not is_causal(model):
            raise ConfigError(f"adapter lld: {type(model).__name__} is an encoder; use a causal base, or kind plr, rtb or lst.")
        if self.entry < 0:
            raise ConfigError(
                f"adapter lld: last_layers {config.last_layers}, but the base has {text.num_hidden_layers} blocks."
            )
        blocks = decoder_blocks(model)
        needed = _needed(model.base_model, blocks, config.last_layers)
        with whole(needed):
            self.backbone = _backbone(model.base_model, blocks, config.last_layers)
        self.takes_positions = "position_ids" in inspect.signature(self.backbone.forward).parameters
        if not any(is_sharded(parameter) for parameter in needed):  # a forward pass needs the engine
            self.eval()._compare(model)
        self.train()  # as every fresh module

    def forward(self, hidden: Sequence[Tensor], attention_mask: Tensor, cache: Any = None) -> Tensor:
        entering = hidden[self.entry]
        options = {"position_ids": token_positions(attention_mask, entering.shape[1])} if self.takes_positions else {}
        if cache is not None:
            options.update(past_key_values=cache)
        output = self.backbone(
            inputs_embeds=entering.to(next(self.parameters()).dtype),
            attention_mask=attention_mask,
            use_cache=cache is not None,
            **options,
        )
        state: Tensor = output.last_hidden_state
        return state

    def new_cache(self) -> Any:
        return DynamicCache(config=self.backbone.config)  # some blocks keep a sliding window only

    @torch.no_grad()
    def _compare(self, model: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        vocabulary = model.config.get_text_config().vocab_size
        ids = torch.randint(vocabulary, (_ROWS, _TOKENS), generator=generator).to(model.device)
        mask = torch.ones_like(ids)
        mask[0, : _TOKENS // 4] = 0
        hidden = read(model, ids, mask, logits_to_keep=1).hidden_states
        expected, found = (states[mask.bool()].double() for states in (hidden[-1], self(hidden, mask)))
        if not (found - expected).norm() <= torch.finfo(hidden[-1].dtype).eps ** 0.5 * expected.norm():
            raise ConfigError(
                f"adapter lld: the last blocks of {type(model).__name__}, fed by h_{self.entry}, do not give its last state: "
                "its backbone changes the input embeddings; use kind lst or lst_plus."
            )


def _needed(backbone: Any, blocks: nn.ModuleList, last_layers: int) -> list[nn.Parameter]:
    """The parameters of what `_backbone` copies."""
    left_out = [backbone.get_input_embeddings(), *blocks[: len(blocks) - last_layers]]
    unwanted = {id(parameter) for module in left_out for parameter in module.parameters()}
    return [parameter for parameter in backbone.parameters() if id(parameter) not in unwanted]


def _backbone(backbone: Any, blocks: nn.ModuleList, last_layers: int) -> Any:
    """A copy of a backbone with its last blocks only, and without hooks and input embeddings."""
    dropped = len(blocks) - last_layers
    config = copy.deepcopy(backbone.config)
    for name, value in vars(backbone.config).items():
        if isinstance(value, list | tuple) and len(value) == len(blocks):  # one entry per layer, e.g. layer_types
            setattr(config, name, value[dropped:])
    config.num_hidden_layers = last_layers
    # What is in the memo is not copied: deepcopy takes the entry instead.
    memo: dict[int, Any] = {id(backbone.config): config, id(backbone.get_input_embeddings()): nn.Identity()}
    for module in backbone.modules():
        memo |= {id(hooks): OrderedDict() for hooks in (module._forward_hooks, module._forward_pre_hooks)}
    memo[id(blocks)] = kept = nn.ModuleList(copy.deepcopy(block, memo) for block in blocks[dropped:])
    copied = copy.deepcopy(backbone, memo).requires_grad_(False)
    kept.requires_grad_(True)
    for module in kept.modules():
        if isinstance(index := getattr(module, "layer_idx", None), int):
            module.__dict__["layer_idx"] = index - dropped  # its place in the copy's own cache
    return copied
