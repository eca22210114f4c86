"""Adapters beside a frozen base: what they compute, and that the base never notices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache

from tests.methods.dsa_kinds import KINDS
from tests.models.test_blocks import GROUPED, HIDDEN, LAYERS, VOCABULARY, tiny, tokens
from trainer.errors import ConfigError
from trainer.methods.dsa.adapter_config import ALIGNERS, AdapterConfig, head_size
from trainer.methods.dsa.base import head_logits, is_causal, read
from trainer.methods.dsa.factory import make_adapter, make_aligner, make_guardrail
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.standalone import Standalone
from trainer.methods.dsa.transformer import Context

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gpt_neox"]
SMALL = {
    "plr": AdapterConfig("plr", probe_width=6),
    "rtb": AdapterConfig("rtb", bottleneck=4),
    "lst": AdapterConfig("lst", reduction=4),
    "lst_plus": AdapterConfig("lst_plus"),
    "lld": AdapterConfig("lld"),
}
PADDING = 4


def base(family: str, **changes: Any) -> Any:
    return tiny(family, **({**GROUPED, **changes} if family == "qwen2" else changes))


def encoder() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
    return AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=VOCABULARY, **sizes)).eval()


def shaken(module: Any) -> Any:
    """Every trained weight moved, so that nothing is zero or equal to the base."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module.eval()


def hidden_of(model: Any, ids: Tensor, mask: Tensor | None = None) -> Any:
    return read(model, ids, torch.ones_like(ids) if mask is None else mask).hidden_states


def padded(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same tokens after some padding on the left, and their mask."""
    left = torch.zeros(len(ids), PADDING, dtype=ids.dtype)
    return torch.cat((left, ids), 1), torch.cat((left, torch.ones_like(ids)), 1)


# ---------------------------------------------------------------------------------------------------------------- the base
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bases_outputs_are_bit_identical_with_many_adapters_attached(family: str) -> None:
    model, ids = base(family), tokens()
    with torch.no_grad():
        before = model(input_ids=ids).logits
        generated = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    members = [shaken(make_guardrail(SMALL[kind], model, ["prompt"])) for kind in KINDS]
    members += [shaken(make_aligner(SMALL[kind], model)) for kind in ALIGNERS]
    output = read(model, ids, torch.ones_like(ids))
    for member in members:
        positions = [torch.tensor([8, 8])] if isinstance(member, Guardrail) else []
        member(output.hidden_states, torch.ones_like(ids), *positions)
    assert torch.equal(output.logits, before)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before)
        assert torch.equal(model.generate(input_ids=ids, max_new_tokens=4, do_sample=False), generated)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_base_even_where_it_could_be_trained(kind: str) -> None:
    model, ids = base("llama").train(), tokens()
    assert all(parameter.requires_grad for parameter in model.parameters())
    guardrail = make_guardrail(SMALL[kind], model, ["prompt", "response"])
    mask = torch.ones_like(ids)
    guardrail(hidden_of(model, ids), mask, torch.tensor([[4, 8], [3, 7]])).sum().backward()
    trained = [p for p in guardrail.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ALIGNERS)
def test_gradients_of_an_aligner_pass_through_the_head_and_leave_it_alone(kind: str) -> None:
    model, ids = base("llama"), tokens()
    model.requires_grad_(False)
    aligner = shaken(make_aligner(SMALL[kind], model))
    head_logits(model, aligner.states(hidden_of(model, ids), torch.ones_like(ids))).log_softmax(-1)[..., 5].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in aligner.parameters() if p.requires_grad and p.dim() > 1)
    assert all(p.grad is None for p in model.parameters())


def test_training_the_base_by_accident_does_not_turn_its_dropout_on() -> None:
    model, ids = base("gpt_neox", hidden_dropout=0.5, attention_dropout=0.5), tokens()
    expected = hidden_of(model, ids)
    assert torch.equal(hidden_of(model.train(), ids)[-1], expected[-1])
    aligner = make_aligner(SMALL["lld"], model.train()).eval()
    assert torch.equal(aligner.states(expected, torch.ones_like(ids)), expected[-1])


def test_a_base_under_peft_is_read_and_copied() -> None:
    model, ids = base("llama"), tokens()
    expected = hidden_of(model, ids)
    wrapped = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    found = hidden_of(wrapped, ids)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    aligner = make_aligner(SMALL["lld"], wrapped)
    assert torch.equal(aligner.states(found, torch.ones_like(ids)), expected[-1])


SCALED = [("granite", {**GROUPED, "logits_scaling": 3.0}), ("cohere", {**GROUPED, "logit_scale": 0.2})]


@pytest.mark.parametrize(("family", "changes"), [*((family, {}) for family in FAMILIES), *SCALED])
def test_the_head_makes_of_the_last_state_what_the_model_makes_of_it(family: str, changes: dict[str, Any]) -> None:
    model, ids = base(family, **changes), tokens()
    output = read(model, ids, torch.ones_like(ids))
    assert torch.equal(head_logits(model, output.hidden_states[-1]), output.logits)


# ----------------------------------------------------------------------------------------------------------- at step 0
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "last_layers"), [("lst_plus", 1), ("lld", 1), ("lld", 2), ("lld", LAYERS)])
def test_an_untrained_lst_plus_or_lld_equals_the_base(family: str, kind: str, last_layers: int) -> None:
    model = base(family)
    aligner = make_aligner(AdapterConfig(kind, last_layers=last_layers), model).eval()
    ids, mask = padded(tokens())
    output = read(model, ids, mask)
    states = aligner.states(output.hidden_states, mask)
    assert torch.equal(states[:, PADDING:], output.hidden_states[-1][:, PADDING:])
    assert torch.equal(head_logits(model, states)[:, PADDING:], output.logits[:, PADDING:])


def test_lld_trains_copies_of_the_last_blocks_and_nothing_else() -> None:
    model = base("llama")
    aligner = make_aligner(AdapterConfig("lld", last_layers=2), model)
    trained = sum(p.numel() for p in aligner.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for block in model.model.layers[1:] for p in block.parameters())
    assert [name for name, p in aligner.named_parameters() if not p.requires_grad] == ["adapter.backbone.norm.weight"]
    before = hidden_of(model, tokens())[-1]
    shaken(aligner)
    assert torch.equal(hidden_of(model, tokens())[-1], before)


def test_lld_of_a_base_with_different_blocks_takes_the_last_ones() -> None:
    """Qwen 2 may attend to a window in some blocks only."""
    model = base("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=2)
    kinds = model.config.layer_types
    assert len(set(kinds)) == 2
    aligner = make_aligner(AdapterConfig("lld", last_layers=1), model)
    assert aligner.adapter.backbone.config.layer_types == kinds[-1:]
    assert torch.equal(aligner.states(hidden_of(model, tokens()), torch.ones_like(tokens())), hidden_of(model, tokens())[-1])


# ------------------------------------------------------------------------------------------------------------- formulas
def linear(layer: Any, x: Tensor) -> Tensor:
    rows = [sum(w * value for w, value in zip(row, x.tolist(), strict=True)) for row in layer.weight.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def layer_norm(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.pow(2).mean() + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def turned(vector: Tensor, position: int) -> Tensor:
    """Rotary position embedding of one head's vector, pair by pair."""
    out, half = vector.clone(), len(vector) // 2
    for i in range(half):
        angle = position * 10_000.0 ** (-i / half)
        out[i] = vector[i] * math.cos(angle) - vector[i + half] * math.sin(angle)
        out[i + half] = vector[i] * math.sin(angle) + vector[i + half] * math.cos(angle)
    return out


def attend(module: Any, rows: list[Tensor], memory: list[Tensor]) -> list[Tensor]:
    """Causal attention of token t over memory 0..t, head by head."""
    out, size = [], module.head_size
    for t, row in enumerate(rows):
        heads = []
        for start in range(0, len(row), size):
            part = slice(start, start + size)
            query = turned(linear(module.query, row)[part], t)
            scores = torch.stack([query @ turned(linear(module.key, memory[s])[part], s) for s in range(t + 1)])
            weights = (scores / math.sqrt(size)).softmax(0)
            heads.append(sum(weights[s] * linear(module.value, memory[s])[part] for s in range(t + 1)))
        out.append(linear(module.out, torch.cat(heads)))
    return out


def brute_ladder(ladder: Any, hidden: list[Tensor], cross: bool) -> Tensor:
    """(T, w) from hidden states (T, d), with loops over layers, tokens, heads and pairs."""
    s = [linear(ladder.first_down, h) for h in hidden[0]]
    for index, (layer, block) in enumerate(zip(ladder.rungs, ladder.blocks, strict=True)):
        g = 1 / (1 + torch.exp(-ladder.gates[index] / 0.1))
        rung = [linear(ladder.downs[index], h) for h in hidden[layer]]
        x = [g * before + (1 - g) * now for before, now in zip(s, rung, strict=True)]
        normed = [layer_norm(block.attention_norm, row) for row in x]
        x = [row + a for row, a in zip(x, attend(block.attention, normed, normed), strict=True)]
        if cross:
            normed = [layer_norm(block.cross_norm, row) for row in x]
            x = [row + a for row, a in zip(x, attend(block.cross_attention, normed, rung), strict=True)]
        s = [row + linear(block.mlp[2], gelu(linear(block.mlp[0], layer_norm(block.mlp_norm, row)))) for row in x]
    return torch.stack([layer_norm(ladder.norm, row) for row in s])


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("kind", ["lst", "lst_plus"])
@torch.no_grad()
def test_the_ladder_is_the_papers_formula(kind: str, every: int) -> None:
    model = base("llama").double()
    ladder = shaken(make_adapter(AdapterConfig(kind, reduction=4, every=every), model).double())
    hidden = hidden_of(model, tokens()[:, :4])
    found = ladder(hidden, torch.ones(2, 4))
    assert ladder.rungs == ([1, 2, 3] if every == 1 else [1, 3])
    assert found.shape == (2, 4, HIDDEN // 4)
    for row in range(2):
        expected = brute_ladder(ladder, [states[row] for states in hidden], cross=kind == "lst_plus")
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-9)


def test_attention_with_several_heads_is_the_formula() -> None:
    model = base("llama", hidden_size=132, head_dim=8)
    model = model.double()
    ladder = shaken(make_adapter(AdapterConfig("lst", reduction=1, every=3), model).double())
    assert ladder.blocks[0].attention.head_size == 44
    hidden = hidden_of(model, tokens()[:1, :3])
    with torch.no_grad():
        expected = brute_ladder(ladder, [states[0] for states in hidden], cross=False)
        torch.testing.assert_close(ladder(hidden, torch.ones(1, 3))[0], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_bypass_is_the_papers_formula() -> None:
    model = base("llama").double()
    bypass = shaken(make_adapter(SMALL["rtb"], model).double())
    hidden = hidden_of(model, tokens()[:, :3])
    found = bypass(hidden, torch.ones(2, 3))

    def tuned(tuner: Any, x: Tensor) -> Tensor:
        return x + linear(tuner.up, gelu(linear(tuner.down, x)))

    for row in range(2):
        for t in range(3):
            x = hidden[0][row, t]
            for index in range(LAYERS):
                g = 1 / (1 + torch.exp(-bypass.gates[index] / 0.1))
                state = tuned(bypass.state_tuners[index], hidden[index + 1][row, t])
                x = g * state + (1 - g) * tuned(bypass.bypass_tuners[index], x)
            torch.testing.assert_close(found[row, t], layer_norm(bypass.norm, x), rtol=1e-9, atol=1e-9)


def test_gates_are_half_open_at_the_start_and_a_bypass_begins_as_an_average() -> None:
    model = base("llama")
    hidden = hidden_of(model, tokens())
    x = hidden[0]
    for state in hidden[1:]:
        x = (x + state) / 2
    bypass = make_adapter(SMALL["rtb"], model)
    torch.testing.assert_close(bypass(hidden, torch.ones(2, 9)), bypass.norm(x))


def test_a_linear_probe_is_linear_in_the_last_state_and_an_mlp_probe_has_one_layer() -> None:
    model, ids = base("llama"), tokens()
    hidden, mask, last = hidden_of(model, ids), torch.ones_like(ids), torch.tensor([8, 5])
    at_last = hidden[-1][torch.arange(2), last]
    probe = make_guardrail(AdapterConfig("plr"), model, ["prompt"])
    torch.testing.assert_close(probe(hidden, mask, last), at_last @ probe.head.weight.T + probe.head.bias)
    probe = make_guardrail(AdapterConfig("plr", probe_width=6), model, ["prompt"])
    layer = probe.adapter.layer
    inner = gelu(at_last @ layer.weight.T + layer.bias)
    torch.testing.assert_close(probe(hidden, mask, last), inner @ probe.head.weight.T + probe.head.bias)


# ------------------------------------------------------------------------------------------------- tokens and their order
PADDED = [
    (family, kind) for family in ("llama", "gemma2", "gpt_neox", "gpt2") for kind in KINDS if (family, kind) != ("gpt2", "lld")
]


@pytest.mark.parametrize(("family", "kind"), PADDED)
@torch.no_grad()
def test_left_padding_does_not_matter(family: str, kind: str) -> None:
    """GPT-2 has absolute positions; with rotary ones, only their differences count."""
    model, ids = base(family), tokens()
    adapter = shaken(make_adapter(SMALL[kind], model))
    wide, mask = padded(ids)
    expected = adapter(hidden_of(model, ids), torch.ones_like(ids))
    found = adapter(hidden_of(model, wide, mask), mask)
    torch.testing.assert_close(found[:, PADDING:], expected, atol=2e-5, rtol=1e-4)
    assert found.isfinite().all()


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_seen_by_nobody_but_itself(causal: bool) -> None:
    """A token that sees nothing at all would be undefined in some attention kernels."""
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    visible = Context.of(mask, new=4, width=8, causal=causal, dtype=torch.float32).visible[:, 0]
    padded_row = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    if not causal:
        padded_row = [[1, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert visible[0].int().tolist() == padded_row
    assert torch.equal(visible[1], torch.ones(4, 4).tril().bool() if causal else torch.ones(4, 4).bool())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_later_token_does_not_change_earlier_features(kind: str) -> None:
    model, ids = base("llama"), tokens()
    adapter = shaken(make_adapter(SMALL[kind], model))
    other = ids.clone()
    other[:, 6:] = (other[:, 6:] + 1) % VOCABULARY
    first, second = (adapter(hidden_of(model, x), torch.ones_like(x)) for x in (ids, other))
    assert torch.equal(first[:, :6], second[:, :6])
    assert not torch.allclose(first[:, 6], second[:, 6], atol=1e-3)


@pytest.mark.parametrize("kind", ["lst", "lst_plus"])
@torch.no_grad()
def test_a_ladder_sees_earlier_tokens_by_itself(kind: str) -> None:
    """Also where the hidden states of a token stay the same, as they do not in a base that attends."""
    model, ids = base("llama"), tokens()
    ladder = shaken(make_adapter(SMALL[kind], model))
    hidden = hidden_of(model, ids)
    changed = [torch.cat((states[:, :1] + 1, states[:, 1:]), 1) for states in hidden]
    first, second = (ladder(x, torch.ones_like(ids)) for x in (hidden, changed))
    assert not torch.allclose(first[:, -1], second[:, -1], atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ALIGNERS)
@torch.no_grad()
def test_token_by_token_with_caches_equals_the_whole_pass(family: str, kind: str) -> None:
    model = base(family)
    aligner = shaken(make_aligner(SMALL[kind], model))
    ids, mask = padded(tokens())
    mask[1] = 1  # rows of different length
    whole = aligner.states(hidden_of(model, ids, mask), mask)
    base_cache, cache, steps = DynamicCache(config=model.config), aligner.new_cache(), []
    for start, stop in [(0, 7), (7, 8), (8, 11), (11, 12), (12, 13)]:
        hidden = read(model, ids[:, start:stop], mask[:, :stop], base_cache).hidden_states
        steps.append(aligner.states(hidden, mask[:, :stop], cache))
    found = torch.cat(steps, 1)
    real = mask.bool()
    torch.testing.assert_close(found[real], whole[real], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_cache_of_lld_keeps_to_a_sliding_window() -> None:
    model = base("mistral", sliding_window=4)
    aligner, ids = shaken(make_aligner(SMALL["lld"], model)), tokens()
    whole = aligner.states(hidden_of(model, ids), torch.ones_like(ids))
    base_cache, cache = DynamicCache(config=model.config), aligner.new_cache()
    for t in range(9):
        hidden = read(model, ids[:, t : t + 1], torch.ones_like(ids[:, : t + 1]), base_cache).hidden_states
        last = aligner.states(hidden, torch.ones_like(ids[:, : t + 1]), cache)
    torch.testing.assert_close(last[:, 0], whole[:, -1], atol=2e-5, rtol=1e-4)
    assert cache.layers[0].keys.shape[-2] < 4


# ------------------------------------------------------------------------------------------------------------- guardrails
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_label_is_read_at_its_own_position(kind: str) -> None:
    model, ids = base("llama"), tokens()
    guardrail = shaken(make_guardrail(SMALL[kind], model, ["prompt", "response"]))
    hidden, mask = hidden_of(model, ids), torch.ones_like(ids)
    both = guardrail(hidden, mask, torch.tensor([[3, 8], [4, 7]]))
    assert both.shape == (2, 2)
    for row, positions in enumerate([[3, 8], [4, 7]]):
        for label, position in enumerate(positions):
            one = guardrail(hidden, mask, torch.full((2,), position))
            torch.testing.assert_close(one[row, label], both[row, label])
    prompt_only = guardrail([states[:, :5] for states in hidden], mask[:, :5], torch.tensor([3, 4]))
    torch.testing.assert_close(prompt_only[:, 0], both[:, 0])  # the response changes nothing about the prompt


@pytest.mark.parametrize("kind", ["plr", "rtb", "lst", "lst_plus"])
@torch.no_grad()
def test_on_an_encoder_a_guardrail_reads_in_both_directions_and_ignores_padding(kind: str) -> None:
    model, ids = encoder(), tokens()
    assert not is_causal(model)
    guardrail = shaken(make_guardrail(SMALL[kind], model, ["text"]))
    first = torch.zeros(2, dtype=torch.long)
    expected = guardrail(hidden_of(model, ids), torch.ones_like(ids), first)
    right = torch.cat((ids, torch.zeros_like(ids[:, :3])), 1)
    mask = torch.cat((torch.ones_like(ids), torch.zeros_like(ids[:, :3])), 1)
    torch.testing.assert_close(guardrail(hidden_of(model, right, mask), mask, first), expected, atol=1e-5, rtol=1e-4)
    hidden = hidden_of(model, ids)
    changed = [torch.cat((states[:, :-1], states[:, -1:] + 1), 1) for states in hidden]
    differs = not torch.allclose(guardrail(changed, torch.ones_like(ids), first), expected, atol=1e-4)
    assert differs == (kind in ("lst", "lst_plus"))


def test_the_standalone_guardrail_ignores_padding_and_later_tokens() -> None:
    alone = shaken(Standalone(SMALL["lst"], HIDDEN, LAYERS, VOCABULARY, causal=True, labels=["prompt", "response"]))
    ids = tokens()
    wide, mask = padded(ids)
    positions = torch.tensor([[3, 8], [4, 7]])
    expected = alone(ids, torch.ones_like(ids), positions)
    assert expected.shape == (2, 2)
    torch.testing.assert_close(alone(wide, mask, positions + PADDING), expected, atol=1e-5, rtol=1e-4)
    prompt_only = alone(ids[:, :5], torch.ones_like(ids[:, :5]), torch.tensor([3, 4]))
    torch.testing.assert_close(prompt_only[:, 0], expected[:, 0])


# --------------------------------------------------------------------------------------------------------------- precision
@pytest.mark.parametrize("kind", KINDS)
def test_a_half_precision_base_serves_float32_adapters_and_half_precision_ones(kind: str) -> None:
    model, ids = base("llama").to(torch.bfloat16), tokens()
    hidden, mask = hidden_of(model, ids), torch.ones_like(ids)
    for dtype in (torch.float32, torch.bfloat16):
        guardrail = make_guardrail(SMALL[kind], model, ["prompt"]).to(dtype)
        assert guardrail(hidden, mask, torch.tensor([8, 8])).dtype == dtype
        if kind in ALIGNERS:
            assert make_aligner(SMALL[kind], model).to(dtype).states(hidden, mask).dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------------------- what does not fit
@pytest.mark.parametrize(
    ("family", "config", "why"),
    [
        ("llama", {"kind": "plr"}, "adapter plr: cannot align; an aligner is one of lst, lst_plus, lld"),
        ("llama", {"kind": "rtb"}, "adapter rtb: cannot align"),
        ("bert", {"kind": "lst"}, "the base is an encoder, which predicts no next token"),
        ("bert", {"kind": "lld"}, "adapter lld: BertModel is an encoder"),
        ("llama", {"kind": "lst", "reduction": 5}, "reduction 5 does not divide the base's width 32"),
        ("llama", {"kind": "lst", "reduction": 32}, "into an even width"),
        ("llama", {"kind": "lld", "last_layers": 4}, "last_layers 4, but the base has 3 blocks"),
        ("gpt2", {"kind": "lld"}, "GPT2LMHeadModel.* changes the input embeddings"),
        ("granite", {"kind": "lld"}, "GraniteForCausalLM.* changes the input embeddings"),
    ],
)
def test_an_aligner_that_does_not_fit_is_refused_with_the_reason(family: str, config: dict[str, Any], why: str) -> None:
    scaled = {**GROUPED, "embedding_multiplier": 7.0} if family == "granite" else {}
    model = encoder() if family == "bert" else base(family, **scaled)
    with pytest.raises(ConfigError, match=why):
        make_aligner(AdapterConfig(**config), model)


@pytest.mark.parametrize(
    ("config", "why"),
    [({"kind": "lora"}, "should be 'plr', 'rtb', 'lst', 'lst_plus' or 'lld'"), ({"kind": "lst", "every": 0}, "greater than 0")],
)
def test_an_adapter_of_no_kind_or_size_cannot_be_made(config: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AdapterConfig(**config)


def test_an_encoders_last_layers_are_refused_as_a_guardrail_too() -> None:
    with pytest.raises(ConfigError, match="use a causal base, or kind plr, rtb or lst"):
        make_guardrail(AdapterConfig("lld"), encoder(), ["text"])


def test_a_ladder_that_skips_layers_always_reads_the_last() -> None:
    assert AdapterConfig("lst", every=1).ladder_layers(4) == [1, 2, 3, 4]
    assert AdapterConfig("lst", every=2).ladder_layers(4) == [2, 4]
    assert AdapterConfig("lst", every=3).ladder_layers(4) == [1, 4]


def test_ladders_are_as_wide_as_the_method_says() -> None:
    assert AdapterConfig("lst").ladder_width(4096) == 256
    assert AdapterConfig("lst_plus").ladder_width(4096) == 1024
    assert [head_size(width) for width in (256, 160, 56, 2, 1024)] == [64, 40, 56, 2, 64]


@pytest.mark.parametrize(("family", "layers", "hidden"), [("bloom", "n_layer", "hidden_size"), ("mpt", "n_layers", "d_model")])
def test_a_model_that_does_not_say_that_it_is_causal_is_so_where_it_generates(family: str, layers: str, hidden: str) -> None:
    sizes = {layers: 1, hidden: 32, "n_head" if family == "bloom" else "n_heads": 2}
    assert is_causal(AutoModelForCausalLM.from_config(AutoConfig.for_model(family, vocab_size=50, **sizes)))
