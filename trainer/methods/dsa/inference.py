"""Generation with a chosen strength of alignment (arXiv 2506.00166, inference).

    z = z_base + strength * (z_dsa - z_base)        0 is the base, bit for bit; 1 is the aligner

The base's own `generate` decodes. Hooks on the base read its hidden states in the forward pass that it makes anyway, and
put mixed logits in the place of its own. Weights must be whole on every rank, not ZeRO-3 shards.

B batch, T tokens of one forward pass, P tokens of the prompt, S tokens so far, d hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, GenerationConfig

from trainer.errors import ConfigError
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.base import head_logits, unwrapped
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.guardrail import Guardrail

Strength = float | Sequence[float] | Tensor | Gate
PROMPT = "prompt"  # the guardrail's label that a gate asks for


class Conversation:
    """What is kept from turn to turn so that nothing is read twice, and what was decided in the last turn.

    Every turn is given the whole conversation. If it does not begin with what was read before, all of it is read again.

    Attributes:
        strength: (B,).
        p_unsafe: (B,); None where no guardrail was asked.
    """

    def __init__(self) -> None:
        self.strength: Tensor | None = None
        self.p_unsafe: Tensor | None = None
        self.forget()

    def forget(self) -> None:
        """Read everything again in the next turn."""
        self.tokens: Tensor | None = None  # (B, S): what the caches hold
        self.mask: Tensor | None = None  # (B, S)
        self.base_cache: Any = None
        self.aligner_cache: Any = None

    def begins(self, input_ids: Tensor, attention_mask: Tensor) -> bool:
        """Whether the caches hold the beginning of this prompt (B, P)."""
        if self.tokens is None or self.mask is None:
            return False
        read = self.tokens.shape[1]
        same = torch.equal(self.tokens, input_ids[:, :read]) and torch.equal(self.mask, attention_mask[:, :read])
        return same and read < input_ids.shape[1]


class OnBase:
    """What generation asks of a model, answered by the base that does the work."""

    def __init__(self, base: Any):
        self.base = base

    @property
    def device(self) -> torch.device:
        device: torch.device = self.base.device
        return device

    @property
    def config(self) -> Any:
        return self.base.config

    @property
    def generation_config(self) -> GenerationConfig:
        return self.base.generation_config


class AlignedModel(OnBase):
    """A frozen base with an aligner, and with a guardrail where alignment is targeted.

    Attributes:
        strength: used where `generate` is not given one.
    """

    def __init__(self, base: Any, aligner: Aligner, guardrail: Guardrail | None = None, strength: Strength = 1.0):
        """base: a causal language model; PEFT may wrap it. aligner, guardrail: made for it, on its device."""
        super().__init__(base)
        self.aligner, self.guardrail, self.strength = aligner, guardrail, strength

    def eval(self) -> AlignedModel:
        for module in (self.base, self.aligner, self.guardrail):
            if module is not None:
                module.eval()
        return self

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        alignment_strength: Strength | None = None,
        conversation: Conversation | None = None,
        **options: Any,
    ) -> Any:
        """The base's `generate`, aligned: greedy or sampling, with caches of keys and values, one reply per prompt.

        With a gate, the guardrail reads the prompt's last token in the base's own forward pass. It keeps no cache, so such
        a turn of a conversation reads all of it again.

        Where every strength is 0 the aligner does not run. In a conversation it does: a later turn needs its cache.

        Args:
            input_ids, attention_mask: (B, P), padded on the left.
            alignment_strength: one for all rows or one per row, at least 0; or a gate, which chooses by the guardrail.
            conversation: goes on from there, and keeps this turn.
            options: as transformers' `generate` takes them.

        Returns:
            What the base's `generate` returns.

        Raises:
            ConfigError: a strength is negative or not finite, or there is not one per row; a gate has no guardrail that judges
                prompts; or, where the aligner runs, `options` ask for beams, several replies per prompt, no cache, or
                anything else that is not one token after the other.
        """
        chosen = self.strength if alignment_strength is None else alignment_strength
        input_ids, attention_mask = input_ids.to(self.device), attention_mask.to(self.device)
        turn = conversation or Conversation()
        if isinstance(chosen, Gate) or not turn.begins(input_ids, attention_mask):
            turn.forget()
            turn.base_cache, turn.aligner_cache = DynamicCache(config=self.base.config), self.aligner.new_cache()
        if conversation is not None:
            options["past_key_values"] = turn.base_cache
        mixing = _Mixing(self, chosen, turn, attention_mask, always_reads=conversation is not None)
        inner = unwrapped(self.base)
        hooks = [inner.register_forward_pre_hook(mixing.before, with_kwargs=True), inner.register_forward_hook(mixing.after)]
        try:
            output = self.base.generate(input_ids=input_ids, attention_mask=attention_mask, **options)
        except BaseException:  # Ctrl-C, say: one cache may hold a token more than the other
            turn.forget()
            raise
        finally:
            for hook in hooks:
                hook.remove()
        sequences = output if isinstance(output, Tensor) else output.sequences
        turn.tokens, turn.mask = sequences[:, : mixing.read], mixing.mask()
        if turn.base_cache.get_seq_length() != mixing.read:  # on some devices the library takes back a token in the end
            turn.forget()
        return output


class _Mixing:
    """Hooks around each forward pass of the base in one `generate`.

    Attributes:
        read: S, how many tokens the caches hold.
    """

    def __init__(self, model: AlignedModel, chosen: Strength, turn: Conversation, prompt_mask: Tensor, always_reads: bool):
        self.model, self.turn, self.prompt_mask, self.always_reads = model, turn, prompt_mask, always_reads
        self.read = 0 if turn.tokens is None else turn.tokens.shape[1]
        self.gate = chosen if isinstance(chosen, Gate) else None
        self.reads = self.mixes = True
        turn.strength = turn.p_unsafe = None
        if not isinstance(chosen, Gate):
            self._set(_one_a_row(chosen, len(prompt_mask), model.device))

    def _set(self, strength: Tensor) -> None:
        self.turn.strength = strength
        self.mixes = bool(strength.any())
        self.reads = self.mixes or self.always_reads

    def mask(self) -> Tensor:
        """(B, S): the prompt's mask, and ones for what follows it."""
        return pad(self.prompt_mask, (0, self.read - self.prompt_mask.shape[1]), value=1)

    def before(self, _: Any, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**options, "output_hidden_states": True} if self.reads else options

    def after(self, _: Any, args: tuple[Any, ...], output: Any) -> None:
        """Puts the mixed logits of the last token in the place of the base's."""
        if not self.reads:
            return
        hidden = output.hidden_states
        rows, prompt = self.prompt_mask.shape
        if hidden[0].shape[:2] != (rows, max(prompt - self.read, 1)):
            raise ConfigError(
                "generate: an aligned model reads the prompt at once, then token by token, with a cache, one reply per prompt; "
                "leave out num_beams, num_return_sequences, use_cache, prefill_chunk_size and assisted decoding."
            )
        self.read += hidden[0].shape[1]
        if self.gate is not None and self.turn.strength is None:
            self.turn.p_unsafe = p_unsafe(self.model.guardrail, hidden, self.mask())
            self._set(self.gate(self.turn.p_unsafe))
        if not self.reads:
            return
        states = self.model.aligner.states(hidden, self.mask(), self.turn.aligner_cache)
        if self.mixes and self.turn.strength is not None:
            aligned = head_logits(self.model.base, states[:, -1:])
            output.logits = mix(output.logits[:, -1:], aligned, self.turn.strength)


def p_unsafe(guardrail: Guardrail | None, hidden: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
    """What the guardrail says of prompts, read at their last token: (B,) float32.

    Args:
        hidden: h_0 .. h_L, each (B, P, d).
        attention_mask: (B, P), padded on the left.

    Raises:
        ConfigError: there is no guardrail, or it has no label `prompt`.
    """
    if guardrail is None or PROMPT not in guardrail.labels:
        raise ConfigError(
            f"alignment strength: a gate asks a guardrail with the label {PROMPT}, and there is none; give a number."
        )
    last = torch.full((len(attention_mask),), attention_mask.shape[1] - 1, device=attention_mask.device)
    logits: Tensor = guardrail(hidden, attention_mask, last)[:, guardrail.labels.index(PROMPT)]
    return logits.float().sigmoid()


def mix(base: Tensor, aligned: Tensor, strength: Tensor) -> Tensor:
    """z_base + strength (z_dsa - z_base) in float32; exactly z_base at 0 and z_dsa at 1.

    Args:
        base, aligned: logits (B, T, V).
        strength: (B,) float32.
    """
    weight, start = strength[:, None, None], base.float()
    return torch.where(weight == 0, start, start.lerp(aligned.float(), weight))  # 0 holds where `aligned` is not finite


def _one_a_row(strength: float | Sequence[float] | Tensor, rows: int, device: torch.device) -> Tensor:
    """(B,) float32."""
    values = torch.as_tensor(strength, dtype=torch.float32, device=device)
    if values.shape not in ((), (rows,)) or not values.isfinite().all() or (values < 0).any():
        raise ConfigError(
            f"alignment strength: {strength} for {rows} prompts; give one number or one per prompt, at least 0: 0 is the base, "
            "1 the aligner."
        )
    return values.expand(rows)
