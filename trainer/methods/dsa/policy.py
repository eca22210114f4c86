"""An aligner as the model that TRL trains, and the frozen base as its reference in the same forward pass (arXiv 2506.00166).

B batch, T tokens, d hidden size, V vocabulary.

TRL's trainers put a fused LM head on a model: `model.base_model(...)` gives final states (B, T, d), and the weight of
`model.get_output_embeddings()` makes log-probabilities of them in tiles, so that (tokens, vocabulary) is never stored whole.
Both models here answer to that. The policy's states are the aligner's; the reference's are h_L, which the policy has just read.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutput

from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.base import head_logits, read, unwrapped


class Policy(nn.Module):
    """The aligner at full strength. Its parameters are the aligner's alone: the base, frozen, is read but no part of it.

    Attributes:
        aligner: made for the base.
        base: a causal language model.
        config, generation_config: copies of the base's, which trainers may change.
    """

    is_gradient_checkpointing = False  # TRL asks whether to turn it off while the reference runs, which runs no block
    base: Any

    def __init__(self, base: Any, aligner: Aligner):
        super().__init__()
        self.aligner = aligner
        self.config, self.generation_config = copy.deepcopy(base.config), copy.deepcopy(base.generation_config)
        self._base_states: Tensor | None = None
        self.__dict__["base"] = base.requires_grad_(False)  # no submodule: it is not trained, saved or synchronised

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the LM head is applied to, (B, T, d), of input_ids and attention_mask (B, T). One forward pass of the base."""
        hidden = read(self.base, input_ids, attention_mask, logits_to_keep=1).hidden_states
        self._base_states = hidden[-1]
        states: Tensor = self.aligner(hidden, attention_mask)
        return states

    def take_base_states(self) -> Tensor:
        """h_L (B, T, d) of the newest forward pass. Each pass can be taken once.

        Raises:
            RuntimeError: it was taken already, or there was none.
        """
        states, self._base_states = self._base_states, None
        if states is None:
            raise RuntimeError("the reference reads the policy's forward pass, and there is no new one; run the policy first.")
        return states

    def base_model(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> BaseModelOutputWithPast:
        """`states`, as TRL's fused LM head asks for them."""
        return BaseModelOutputWithPast(last_hidden_state=self.states(input_ids, attention_mask))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> CausalLMOutput:
        """The logits (B, T, V) at full strength. Gradients reach the aligner."""
        return CausalLMOutput(logits=head_logits(self.base, self.states(input_ids, attention_mask)))

    def get_output_embeddings(self) -> nn.Module:
        """The base's LM head."""
        head: nn.Module = unwrapped(self.base).get_output_embeddings()
        return head

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """For copied blocks of the base; a ladder is narrow and keeps its activations."""
        for module in self.aligner.modules():
            if isinstance(module, PreTrainedModel):
                module.activation_checkpointing_enable(**options)

    def add_model_tags(self, tags: Any) -> None:
        """Nothing: the tags are for model cards on the hub."""


class Reference(nn.Module):
    """The base, as the policy saw it in its newest forward pass; runs no block of its own."""

    def __init__(self, policy: Policy):
        super().__init__()
        self.policy, self.config = policy, policy.config

    def base_model(self, **_: Any) -> BaseModelOutputWithPast:
        """h_L, as TRL's fused LM head asks for it."""
        return BaseModelOutputWithPast(last_hidden_state=self.policy.take_base_states())

    def get_output_embeddings(self) -> nn.Module:
        """The base's LM head."""
        return self.policy.get_output_embeddings()
