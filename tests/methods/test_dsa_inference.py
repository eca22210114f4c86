"""Generation with a chosen strength of alignment, against the base's `generate` and against whole passes without a cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from tests.models.test_blocks import VOCABULARY, tiny
from trainer.errors import ConfigError
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.base import head_logits, read
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.inference import AlignedModel, Conversation, mix

NEW = 5  # tokens of every reply
KINDS = {
    "lst": AdapterConfig("lst", reduction=4),
    "lst_plus": AdapterConfig("lst_plus", reduction=4),
    "lld": AdapterConfig("lld", last_layers=2),
}


def aligned_model(family: str = "llama", kind: str = "lst", guardrail: str | None = None, **settings: Any) -> AlignedModel:
    """A random base whose adapters say something else than it does."""
    base = tiny(family)
    aligner = make_aligner(KINDS[kind], base)
    with torch.no_grad():
        for parameter in aligner.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    guard = None if guardrail is None else make_guardrail(AdapterConfig(guardrail, reduction=4), base, ("response", "prompt"))
    return AlignedModel(base, aligner, guard, **settings).eval()


def prompts(rows: int = 3) -> dict[str, Tensor]:
    """Token ids and mask of prompts of several lengths, padded on the left."""
    ids = torch.randint(3, VOCABULARY, (rows, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : 2 * row] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def reply(model: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
    """Sequences (B, P + NEW) and the raw logits of every step, NEW times (B, V)."""
    how = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, **options}
    return model.generate(**inputs, return_dict_in_generate=True, output_logits=True, **how)


@torch.no_grad()
def whole_passes(model: AlignedModel, sequences: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, NEW, V) of the base and of the aligner for the tokens of a reply, without any cache."""
    mask = torch.nn.functional.pad(mask, (0, sequences.shape[1] - mask.shape[1]), value=1)
    output = read(model.base, sequences, mask)
    aligned = head_logits(model.base, model.aligner.states(output.hidden_states, mask))
    return output.logits[:, -NEW - 1 : -1], aligned[:, -NEW - 1 : -1]


@contextmanager
def calls(module: torch.nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """The shape of what the module returned first, call by call."""
    shapes: list[tuple[int, ...]] = []

    def note(_: Any, args: Any, output: Any) -> None:
        first = output if isinstance(output, Tensor) else output.logits
        shapes.append(tuple(first.shape))

    handle = module.register_forward_hook(note)
    yield shapes
    handle.remove()


def same(found: Any, expected: Any, row: int | slice = slice(None)) -> bool:
    """Bit for bit."""
    return torch.equal(found.sequences[row], expected.sequences[row]) and all(
        torch.equal(a[row], b[row]) for a, b in zip(found.logits, expected.logits, strict=True)
    )


# --------------------------------------------------------------------------------------------------------------- strength
@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "temperature": 1.5}])
@pytest.mark.parametrize("keep", [False, True])
def test_strength_0_is_the_base_bit_for_bit(sampling: dict[str, Any], keep: bool) -> None:
    model, inputs = aligned_model(), prompts()
    torch.manual_seed(3)
    expected = reply(model.base, inputs, **sampling)
    torch.manual_seed(3)
    kept = {"conversation": Conversation()} if keep else {}
    assert same(reply(model, inputs, alignment_strength=0.0, **kept, **sampling), expected)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_row_has_its_own_mixture_of_the_two_distributions(family: str, kind: str) -> None:
    model, inputs, strength = aligned_model(family, kind), prompts(), torch.tensor([0.0, 0.3, 1.0])
    found = reply(model, inputs, alignment_strength=strength)
    base, aligned = whole_passes(model, found.sequences, inputs["attention_mask"])
    expected = base + strength[:, None, None] * (aligned - base)
    torch.testing.assert_close(torch.stack(found.logits, 1), expected, atol=2e-4, rtol=2e-4)
    assert (base[1:] - aligned[1:]).abs().amax() > 0.1  # there is something to mix
    assert same(found, reply(model.base, inputs), row=0)


def test_a_row_of_strength_0_takes_nothing_from_an_aligner_that_is_not_finite() -> None:
    base, broken = torch.randn(2, 1, 4), torch.full((2, 1, 4), torch.nan)
    assert torch.equal(mix(base, broken, torch.tensor([0.0, 1.0]))[0], base[0])


def test_mixing_is_exact_at_both_ends_and_in_float32() -> None:
    base, aligned = torch.randn(3, 1, 8).bfloat16(), 100 * torch.randn(3, 1, 8).bfloat16()
    mixed = mix(base, aligned, torch.tensor([0.0, 1.0, 0.5]))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed[0], base[0].float())
    assert torch.equal(mixed[1], aligned[1].float())
    torch.testing.assert_close(mixed[2], (base[2].float() + aligned[2].float()) / 2)


def test_the_aligner_does_not_run_where_every_strength_is_0() -> None:
    model, inputs = aligned_model(), prompts(2)
    with calls(model.aligner.adapter) as runs:
        reply(model, inputs, alignment_strength=[0.0, 0.0])
        assert runs == []
        reply(model, inputs, alignment_strength=[0.0, 1.0])
    assert len(runs) == NEW


def test_only_the_logits_of_the_last_token_are_made() -> None:
    model = aligned_model()
    with calls(model.base.get_output_embeddings()) as heads:
        reply(model, prompts(2), alignment_strength=1.0)
    assert heads == 2 * NEW * [(2, 1, VOCABULARY)]  # the base's and the aligner's


def test_the_models_own_strength_is_used_where_none_is_given() -> None:
    model, inputs = aligned_model(strength=0.4), prompts()
    assert same(reply(model, inputs), reply(model, inputs, alignment_strength=[0.4, 0.4, 0.4]))


def test_a_base_inside_peft_is_aligned_as_well() -> None:
    model, inputs = aligned_model(), prompts()
    expected = reply(model, inputs)
    wrapped = AlignedModel(get_peft_model(model.base, LoraConfig(target_modules=["q_proj"])).eval(), model.aligner)
    torch.testing.assert_close(reply(wrapped, inputs).logits, expected.logits)
    assert same(reply(wrapped, inputs, alignment_strength=0.0), reply(wrapped.base, inputs))


@pytest.mark.parametrize("strength", [-0.1, float("nan"), [0.5, 0.5], [[0.5], [0.5], [0.5]]])
def test_a_strength_that_cannot_be_is_refused(strength: Any) -> None:
    with pytest.raises(ConfigError, match=r"alignment strength: .* for 3 prompts"):
        reply(aligned_model(), prompts(), alignment_strength=strength)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"num_return_sequences": 2, "do_sample": True},
        {"use_cache": False},
        {"prefill_chunk_size": 3},
        {"prompt_lookup_num_tokens": 2},
    ],
)
def test_what_does_not_decode_token_by_token_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="leave out num_beams"):
        reply(aligned_model(), prompts(1), **options)


# --------------------------------------------------------------------------------------------------------------- targeted
def test_the_step_and_the_ramp_by_hand() -> None:
    p = torch.tensor([0.0, 0.4, 0.5, 0.55, 0.6, 1.0])
    assert Gate(0.5, maximum=0.8)(p).tolist() == pytest.approx([0, 0, 0.8, 0.8, 0.8, 0.8])
    assert Gate(0.5, maximum=0.8, width=0.2)(p).tolist() == pytest.approx([0, 0, 0.4, 0.6, 0.8, 0.8], abs=1e-6)


@pytest.mark.parametrize("width", [0.0, 0.2])
def test_a_guardrail_that_says_nan_opens_the_gate(width: float) -> None:
    assert Gate(0.5, width=width)(torch.tensor([torch.nan])).tolist() == [1.0]


@pytest.mark.parametrize("wrong", [{"threshold": float("nan")}, {"maximum": 0.0}, {"width": -0.1}])
def test_a_gate_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="make no gate"):
        Gate(**{"threshold": 0.5, **wrong})


@pytest.mark.parametrize("kind", ["plr", "rtb", "lst"])
def test_the_guardrail_decides_each_row_in_the_pass_that_reads_the_prompt(kind: str) -> None:
    model, inputs, turn = aligned_model(guardrail=kind), prompts(), Conversation()
    assert model.guardrail is not None
    hidden = read(model.base, **inputs).hidden_states
    p = torch.sigmoid(model.guardrail(hidden, inputs["attention_mask"], torch.full((3,), 6))[:, 1]).detach()
    tau = p.median().item()
    with calls(model.base) as passes:
        found = reply(model, inputs, alignment_strength=Gate(tau, maximum=0.9), conversation=turn)
    assert len(passes) == NEW  # one per token, none for the guardrail
    assert turn.p_unsafe is not None and turn.strength is not None
    torch.testing.assert_close(turn.p_unsafe, p)
    assert sorted(turn.strength.tolist()) == pytest.approx([0, 0.9, 0.9])
    assert same(found, reply(model, inputs, alignment_strength=turn.strength))


def test_prompts_that_the_gate_lets_through_are_answered_by_the_base_alone() -> None:
    model, inputs = aligned_model(guardrail="lst"), prompts()
    expected = reply(model.base, inputs)
    with calls(model.aligner.adapter) as runs:
        assert same(reply(model, inputs, alignment_strength=Gate(1.1)), expected)
    assert runs == []


@pytest.mark.parametrize("labels", [None, ("response",)])
def test_a_gate_without_a_guardrail_of_prompts_is_refused(labels: tuple[str, ...] | None) -> None:
    model = aligned_model()
    if labels is not None:
        model.guardrail = make_guardrail(AdapterConfig("plr"), model.base, labels)
    with pytest.raises(ConfigError, match="a gate asks a guardrail"):
        reply(model, prompts(), alignment_strength=Gate(0.5))


# ------------------------------------------------------------------------------------------------------------ conversation
def next_turn(sequences: Tensor, mask: Tensor, seed: int) -> dict[str, Tensor]:
    """The conversation so far, and a new message of three tokens."""
    message = torch.randint(3, VOCABULARY, (len(sequences), 3), generator=torch.Generator().manual_seed(seed))
    ids = torch.cat([sequences, message], 1)
    return {"input_ids": ids, "attention_mask": torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)}


@pytest.mark.parametrize("kind", list(KINDS))
def test_strength_may_change_between_turns_and_nothing_is_read_twice(kind: str) -> None:
    model, inputs, turn = aligned_model(kind=kind), prompts(), Conversation()
    first_pass = [inputs["input_ids"].shape[1], 4, 4, 4]  # the last token of a reply was not read yet
    for number, strength in enumerate([0.0, [0.0, 1.0, 0.5], 0.0, 0.7]):
        with calls(model.aligner.adapter) as runs:
            found = reply(model, inputs, alignment_strength=strength, conversation=turn)
        assert [shape[1] for shape in runs] == [first_pass[number], *[1] * (NEW - 1)]
        alone = reply(model, inputs, alignment_strength=strength)
        assert torch.equal(found.sequences, alone.sequences)
        torch.testing.assert_close(torch.stack(found.logits), torch.stack(alone.logits), atol=2e-4, rtol=2e-4)
        inputs = next_turn(found.sequences, inputs["attention_mask"], number)


def test_a_conversation_that_begins_otherwise_is_read_anew() -> None:
    model, turn = aligned_model(), Conversation()
    first = reply(model, prompts(), conversation=turn)
    changed = next_turn(first.sequences, prompts()["attention_mask"], 0)
    changed["input_ids"][:, 6] = 5
    for inputs in (changed, prompts(2), prompts()):  # other words, other rows, and less than was read
        assert same(reply(model, inputs, conversation=turn), reply(model, inputs))


def test_a_targeted_turn_judges_the_whole_conversation() -> None:
    model, inputs, turn = aligned_model(guardrail="lst"), prompts(), Conversation()
    first = reply(model, inputs, alignment_strength=0.0, conversation=turn)
    inputs = next_turn(first.sequences, inputs["attention_mask"], 0)
    fresh = Conversation()
    expected = reply(model, inputs, alignment_strength=Gate(0.5), conversation=fresh)
    assert same(reply(model, inputs, alignment_strength=Gate(0.5), conversation=turn), expected)
    assert turn.p_unsafe is not None and fresh.p_unsafe is not None
    assert torch.equal(turn.p_unsafe, fresh.p_unsafe)


def test_an_interrupted_turn_leaves_nothing_behind() -> None:
    model, inputs, turn = aligned_model(), prompts(1), Conversation()

    class Stop:
        def put(self, tokens: Tensor) -> None:
            if tokens.dim() == 1:  # the first is the prompt
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reply(model, inputs, conversation=turn, streamer=Stop())
    assert same(reply(model, inputs, conversation=turn), reply(model, inputs))
    assert same(reply(model.base, inputs), reply(model, inputs, alignment_strength=0.0))  # the hooks are gone
