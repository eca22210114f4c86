"""SafeSteer's loss against the full softmax it never stores, and against the kernel of the stock distillation trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from trainer.errors import ConfigError
from trainer.methods.safesteer import loss as module
from trainer.methods.safesteer.loss import Head, Terms, localized_divergence, sequence_mean
from trainer.methods.safesteer.losses import LossKind

KINDS: tuple[LossKind, ...] = get_args(LossKind)
N, V, H, HT, S = 11, 50, 7, 9, 6  # Ht: the teacher is wider


class Case:
    """Random hidden states and heads, with tiles so small that every loop turns more than once."""

    def __init__(self, dtype: torch.dtype = torch.float64, positions: int = N, **student: Any):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.hidden, weight, bias = draw(positions, H), draw(V, H), draw(V)
        self.teacher_hidden = draw(positions, HT)
        self.head = Head(weight, bias, **student)
        self.teacher = Head(draw(V, HT), draw(V), scale=1.3, softcap=5.0)
        self.tokens = torch.randperm(V, generator=generator)[:S]
        self.upstream = draw(positions)
        for leaf in self.leaves:
            leaf.requires_grad_()

    @property
    def leaves(self) -> list[torch.Tensor]:
        return [x for x in (self.hidden, self.head.weight, self.head.bias) if x is not None]

    def terms(self, kind: LossKind) -> Terms:
        return localized_divergence(self.hidden, self.head, self.teacher_hidden, self.teacher, self.tokens, kind)

    def gradients(self, loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(loss, self.leaves, self.upstream.to(loss.dtype))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_TOKENS", 4)
    monkeypatch.setattr(module, "TILE_VOCABULARY", 16)


def log_softmax(hidden: torch.Tensor, head: Head) -> torch.Tensor:
    z = F.linear(hidden, head.weight, head.bias) * head.scale
    return (z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)).log_softmax(-1)


def brute_force(case: Case, kind: LossKind) -> torch.Tensor:
    """The formulas of the paper, read from the full softmax of both."""
    log_s, log_t = log_softmax(case.hidden, case.head), log_softmax(case.teacher_hidden, case.teacher)
    if kind == "full":
        return (log_s.exp() * (log_s - log_t)).sum(1)
    log_s, log_t = log_s[:, case.tokens], log_t[:, case.tokens]
    if kind == "renormalised":
        log_s = log_s - log_s.logsumexp(1, keepdim=True)
        log_t = log_t - log_t.logsumexp(1, keepdim=True)
    if kind == "forward":
        return (log_t.exp() * (log_t - log_s)).sum(1)
    return (log_s.exp() * (log_s - log_t)).sum(1)


def assert_equal(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor], tolerance: float = 1e-9) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------------------------------------- exactness
@pytest.mark.parametrize("transform", [{}, {"scale": 0.7}, {"softcap": 3.0}, {"scale": 0.7, "softcap": 3.0}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradients_are_those_of_the_full_softmax(kind: LossKind, transform: dict[str, float]) -> None:
    case = Case(**transform)
    expected, terms = brute_force(case, kind), case.terms(kind)
    assert_equal([terms.loss], [expected])
    assert_equal(case.gradients(terms.loss), case.gradients(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_without_bias_and_a_frozen_head_are_taken(kind: LossKind) -> None:
    case = Case()
    case.head = Head(case.head.weight.detach(), None)
    expected, terms = brute_force(case, kind), case.terms(kind)
    (found,) = torch.autograd.grad(terms.loss.sum(), [case.hidden])
    assert_equal([terms.loss, found], [expected, *torch.autograd.grad(expected.sum(), [case.hidden])])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: LossKind) -> None:
    case = Case(positions=3, softcap=3.0)

    def loss(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        head = replace(case.head, weight=weight, bias=bias)
        return localized_divergence(hidden, head, case.teacher_hidden, case.teacher, case.tokens, kind).loss

    assert torch.autograd.gradcheck(loss, case.leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_masses_and_entropy_are_those_of_the_full_softmax_and_carry_no_gradient(kind: LossKind) -> None:
    case = Case(softcap=3.0)
    log_s, log_t = log_softmax(case.hidden, case.head), log_softmax(case.teacher_hidden, case.teacher)
    terms = case.terms(kind)
    masses = [log_p.exp()[:, case.tokens].sum(1) for log_p in (log_s, log_t)]
    assert_equal(terms[1:], [*masses, -(log_s.exp() * log_s).sum(1)])
    assert [term.requires_grad for term in terms] == [True, False, False, False]


@pytest.mark.parametrize("tiles", [(1, V), (N, 3), (3, 7), (1000, 1000)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_tile_changes_nothing(kind: LossKind, tiles: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    expected = case.terms(kind)
    gradients = case.gradients(expected.loss)
    monkeypatch.setattr(module, "TILE_TOKENS", tiles[0])
    monkeypatch.setattr(module, "TILE_VOCABULARY", tiles[1])
    found = case.terms(kind)
    assert_equal(found, expected, 1e-12)
    assert_equal(case.gradients(found.loss), gradients, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_on_the_students_own_head_is_constant(kind: LossKind) -> None:
    """Base with an adapter: both heads are one weight, and its gradient comes from the student's side alone."""
    case = Case()
    case.teacher_hidden, case.teacher = case.hidden.detach().roll(1, 0), case.head
    terms = case.terms(kind)
    case.teacher = replace(case.head, weight=case.head.weight.detach(), bias=case.head.bias.detach())
    expected = brute_force(case, kind)
    assert_equal([terms.loss], [expected])
    assert_equal(case.gradients(terms.loss), case.gradients(expected))


# ----------------------------------------------------------------------------------------------- what the formulas are
def test_a_slice_that_is_the_whole_vocabulary_is_the_ordinary_reverse_kl() -> None:
    case = Case()
    case.tokens = torch.arange(V)
    log_s, log_t = log_softmax(case.hidden, case.head), log_softmax(case.teacher_hidden, case.teacher)
    expected = F.kl_div(log_t, log_s, reduction="none", log_target=True).sum(1)
    gradients = case.gradients(expected)
    for kind in ("slice", "renormalised", "full"):
        found = case.terms(kind).loss
        assert_equal([found, *case.gradients(found)], [expected, *gradients])


def test_forward_on_the_whole_vocabulary_is_the_ordinary_forward_kl() -> None:
    case = Case()
    case.tokens = torch.arange(V)
    log_s, log_t = log_softmax(case.hidden, case.head), log_softmax(case.teacher_hidden, case.teacher)
    expected = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(1)
    found = case.terms("forward").loss
    assert_equal([found, *case.gradients(found)], [expected, *case.gradients(expected)])


def from_probabilities(p_s: list[float], p_t: list[float], tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, gradient on the logits) of `slice` at one position: one hidden unit, and logits are the bias."""
    bias = torch.tensor(p_s, dtype=torch.float64).log().requires_grad_()
    nothing, one = torch.zeros(len(p_s), 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    teacher = Head(nothing, torch.tensor(p_t, dtype=torch.float64).log())
    loss = localized_divergence(one, Head(nothing, bias), one, teacher, torch.tensor(tokens), "slice").loss
    return loss.detach(), torch.autograd.grad(loss.sum(), [bias])[0]


def test_slice_by_hand_can_be_negative() -> None:
    loss, _ = from_probabilities([0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0, 1])
    assert loss.item() == pytest.approx(0.1 * math.log(1 / 3) + 0.2 * math.log(1 / 2))
    assert loss.item() < 0


def test_slice_is_stationary_where_the_student_is_the_teacher_over_e_and_not_where_they_agree() -> None:
    teacher = [0.3, 0.4, 0.3]
    at_e = [0.3 / math.e, 0.4 / math.e]
    loss, gradient = from_probabilities([*at_e, 1 - sum(at_e)], teacher, [0, 1])
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert loss.item() == pytest.approx(-0.7 / math.e)
    _, gradient = from_probabilities(teacher, teacher, [0, 1])
    assert gradient[:2].min() > 0.05, "descent takes mass off S where the two agree"


def test_descent_on_slice_ends_at_the_teacher_over_e() -> None:
    p_t = torch.tensor([[0.3, 0.4, 0.1, 0.2]], dtype=torch.float64)
    hidden = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    eye = Head(torch.eye(4, dtype=torch.float64), None)
    for _ in range(300):
        loss = localized_divergence(hidden, eye, p_t.log(), eye, torch.tensor([0, 1]), "slice").loss
        hidden.data -= 4.0 * torch.autograd.grad(loss.sum(), [hidden])[0]
    torch.testing.assert_close(hidden.detach().softmax(1)[:, :2], p_t[:, :2] / math.e, rtol=0, atol=1e-6)


def test_full_is_the_stock_kernel_at_beta_one() -> None:
    case = Case(torch.float32, scale=0.7, softcap=3.0)
    expected, entropy = ChunkedDivergenceFunction.apply(
        case.hidden, case.head.weight, case.head.bias, case.teacher_hidden, case.teacher.weight, case.teacher.bias,
        1.0, 1.0, case.head.scale, case.head.softcap, case.teacher.scale, case.teacher.softcap,
    )  # fmt: skip
    terms = case.terms("full")
    assert_equal([terms.loss, terms.entropy], [expected, entropy], 2e-5)
    assert_equal(case.gradients(terms.loss), case.gradients(expected), 2e-5)


# ----------------------------------------------------------------------------------------------------------- precision
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_inputs_give_float32_results_close_to_the_exact_ones(kind: LossKind) -> None:
    case, exact = Case(torch.bfloat16), Case()
    exact.hidden, exact.teacher_hidden, exact.upstream = (
        x.detach().double() for x in (case.hidden, case.teacher_hidden, case.upstream)
    )
    exact.head, exact.teacher = (
        replace(head, weight=head.weight.detach().double(), bias=head.bias.detach().double())
        for head in (case.head, case.teacher)
        if head.bias is not None
    )
    for leaf in exact.leaves:
        leaf.requires_grad_()
    terms, expected = case.terms(kind), brute_force(exact, kind)
    assert {term.dtype for term in terms} == {torch.float32}
    assert_equal([terms.loss.double()], [expected], 1e-4)
    for found, wanted in zip(case.gradients(terms.loss), exact.gradients(expected), strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), wanted, rtol=1e-2, atol=1e-2 * wanted.abs().max().item())


def test_autocast_rounds_the_operands_as_a_linear_layer_would() -> None:
    case, rounded = Case(torch.float32), Case(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        terms = case.terms("slice")
    assert terms.loss.dtype == torch.float32
    rounded.head = replace(rounded.head, bias=case.head.bias)  # float32 in both
    rounded.teacher = replace(rounded.teacher, bias=case.teacher.bias)
    assert_equal(terms, rounded.terms("slice"), 1e-6)
    assert {gradient.dtype for gradient in case.gradients(terms.loss)} == {torch.float32}


# --------------------------------------------------------------------------------------------------------------- edges
@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_with_no_valid_position_has_zero_gradients_and_not_none(kind: LossKind) -> None:
    case = Case(positions=0)
    mask = torch.zeros(2, 5)
    loss = sequence_mean(case.terms(kind).loss, mask)
    assert loss.item() == 0.0
    loss.backward()
    for leaf in case.leaves:
        assert leaf.grad is not None
        assert leaf.grad.shape == leaf.shape
        assert not leaf.grad.any()


def test_two_vocabularies_are_refused() -> None:
    case = Case()
    case.teacher = Head(torch.zeros(V + 2, HT, dtype=torch.float64), None)
    with pytest.raises(ConfigError, match=r"student's head has 50 tokens and the teacher's 52"):
        case.terms("slice")


class Largest(TorchDispatchMode):
    """The most elements in one storage that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


def test_the_logits_are_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_TOKENS", 64)
    monkeypatch.setattr(module, "TILE_VOCABULARY", 512)
    tokens, vocabulary = 512, 4096
    hidden = torch.randn(tokens, 8, requires_grad=True)
    head = Head(torch.randn(vocabulary, 8, requires_grad=True), torch.randn(vocabulary, requires_grad=True), softcap=5.0)
    for kind in KINDS:
        with Largest() as largest:
            localized_divergence(hidden, head, torch.randn(tokens, 8), head, torch.arange(50), kind).loss.sum().backward()
        assert largest.elements < tokens * vocabulary / 8
    with Largest() as largest:
        log_softmax(hidden, head)
    assert largest.elements == tokens * vocabulary, "the measurement sees what it should"


def test_a_loss_on_the_safety_logits_alone_has_no_tiles_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    loss = case.terms("renormalised").loss
    monkeypatch.setattr(module, "_tile_memory", lambda *_: pytest.fail("a tile was made"))
    case.gradients(loss)


# ------------------------------------------------------------------------------------------------------ means and heads
def test_sequences_of_unequal_length_weigh_the_same_and_an_empty_one_counts_as_zero() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    loss = torch.tensor([1.0, 2.0, 6.0, 9.0], requires_grad=True)
    mean = sequence_mean(loss, mask)
    assert mean.item() == pytest.approx((3.0 + 9.0 + 0.0) / 3)
    mean.backward()
    assert_equal([loss.grad], [torch.tensor([1 / 9, 1 / 9, 1 / 9, 1 / 3])], 1e-6)


def tiny(model_type: str, **settings: Any) -> Any:
    config = AutoConfig.for_model(
        model_type, vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, bos_token_id=0, eos_token_id=1, pad_token_id=2, **settings,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("qwen3", {}),
        ("phi", {}),  # a bias
        ("cohere", {"logit_scale": 0.3}),
        ("granite", {"logits_scaling": 4.0}),
        ("hyperclovax", {"logits_scaling": 4.0}),
        ("gemma2", {"final_logit_softcapping": 0.5}),
    ],
)
def test_the_head_gives_the_logits_of_its_model(model_type: str, settings: dict[str, float]) -> None:
    model = tiny(model_type, **settings)
    with torch.no_grad():
        output = model(torch.arange(6)[None], output_hidden_states=True)
        found = log_softmax(output.hidden_states[-1], Head.of(model))
    assert_equal([found], [output.logits.log_softmax(-1)], 1e-5)


def test_the_head_of_a_model_with_an_adapter_is_that_of_the_model_inside() -> None:
    model = tiny("llama")
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    assert Head.of(adapted).weight is model.lm_head.weight


def test_an_adapter_on_the_head_is_refused() -> None:
    adapted = get_peft_model(tiny("llama"), LoraConfig(target_modules=["lm_head"]))
    with pytest.raises(ConfigError, match="take lm_head out of target_modules"):
        Head.of(adapted)
