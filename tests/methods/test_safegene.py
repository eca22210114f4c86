"""SafeGene's formulas against hand computations in float64, its artifact, and its additions through hooks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.config.shipped import BASE_DIR
from trainer.errors import ArtifactError, DataError
from trainer.methods.safegene import merging
from trainer.methods.safegene.batches import encode, padded
from trainer.methods.safegene.contenders import expressing, linear_layers
from trainer.methods.safegene.gene import Gene, architecture_of, save_expressed, tokenizer_fingerprint
from trainer.methods.safegene.losses import deviation, forward_kl, hidden_distance, reply_loss, token_mean
from trainer.methods.safegene.recalibrating import recalibration_loss
from trainer.methods.safegene.salora import safety_basis, without
from trainer.methods.safegene.selection import chosen_layers, contrast, layer_of, relative_change, weight_norms
from trainer.methods.safegene.stage_measure import refused
from trainer.models.low_rank import LowRank, low_rank_added, read_adapter
from trainer.models.weights import Weights, other_weights

EXACT = {"rtol": 0.0, "atol": 1e-12}
IDS = torch.tensor([[2, 5, 40, 80, 90, 6, 41, 42], [2, 5, 41, 81, 91, 6, 44, 45]])


def random_matrices(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


def base() -> Any:
    return AutoModelForCausalLM.from_pretrained(BASE_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BASE_DIR)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the sandbox's base that is not nothing, as PEFT saves it."""
    torch.manual_seed(1)
    model = get_peft_model(base(), LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    directory = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def gene(adapter: Path, tokenizer: Any, tmp_path: Path) -> Path:
    model = base()
    made = Gene(
        read_adapter(adapter), [1, 3], [0.1, 0.4, 0.2, 0.3], "contrast", architecture_of(model),
        tokenizer_fingerprint(tokenizer), "aligned", {"run": "here"},
    )  # fmt: skip
    directory = tmp_path / "gene"
    directory.mkdir()
    made.save(adapter, directory)
    return directory


# ---------------------------------------------------------------------------------------------------------------- formulas


def test_the_gene_is_added_and_alpha_zero_is_the_task_model_bit_for_bit() -> None:
    task, delta = random_matrices(2)
    torch.testing.assert_close(merging.expressed(task, delta, 0.7), task + 0.7 * delta, **EXACT)
    assert merging.expressed(task, delta, 0.0).equal(task)
    half = task.bfloat16()
    assert merging.expressed(half, delta.float(), 0.0).equal(half)


def test_resta_adds_the_safety_vector() -> None:
    task, aligned, degraded = random_matrices(3)
    torch.testing.assert_close(merging.resta(task, aligned, degraded, 0.5), task + 0.5 * aligned - 0.5 * degraded, **EXACT)


def by_hand(task: Tensor, aligned: Tensor, unaligned: Tensor) -> tuple[Tensor, float]:
    v, update = aligned - unaligned, task - aligned
    size = sum(float(x) ** 2 for x in v.flatten()) ** 0.5
    inside = torch.einsum("ik,jk,jl->il", v, v, update) / size
    dot = float((inside * update).sum())
    return inside, dot / (float(inside.square().sum()) ** 0.5 * float(update.square().sum()) ** 0.5)


def test_safelora_projects_where_the_cosine_is_small_and_leaves_the_rest() -> None:
    task, aligned, unaligned = random_matrices(3)
    inside, cosine = by_hand(task, aligned, unaligned)
    torch.testing.assert_close(merging.safelora(task, aligned, unaligned, cosine + 1e-6), aligned + inside, **EXACT)
    assert merging.safelora(task, aligned, unaligned, cosine - 1e-6).equal(task)
    assert merging.safelora(task, aligned, aligned, 0.5).equal(task), (
        "a layer that alignment left alone has nothing to project on"
    )


def test_safelora_of_a_low_rank_update_projects_b() -> None:
    """C (B A) = (C B) A: the paper's form for LoRA."""
    aligned, unaligned = random_matrices(2)
    b, a = torch.randn(5, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    v = aligned - unaligned
    expected = aligned + (v @ v.T / v.norm() @ b) @ a
    torch.testing.assert_close(merging.safelora(aligned + b @ a, aligned, unaligned, 1.0), expected, **EXACT)


def test_safemerge_mixes_only_layers_below_the_threshold() -> None:
    task, aligned, unaligned, safe = random_matrices(4)
    _, cosine = by_hand(task, aligned, unaligned)
    mixed = merging.safemerge(task, aligned, unaligned, safe, cosine + 1e-6, 0.8)
    torch.testing.assert_close(mixed, 0.8 * task + 0.2 * safe, **EXACT)
    assert merging.safemerge(task, aligned, unaligned, safe, cosine - 1e-6, 0.8).equal(task)


def test_salora_leaves_the_directions_alone_in_which_harmful_prompts_are_answered() -> None:
    outputs = torch.randn(30, 6, dtype=torch.float64) @ torch.diag(torch.tensor([9.0, 5, 1, 1, 1, 1], dtype=torch.float64))
    u = safety_basis(outputs, 2)
    left, _, _ = torch.linalg.svd(outputs.T)
    expected = torch.eye(6, dtype=torch.float64) - left[:, :2] @ left[:, :2].T
    values = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(without(values, u), values @ expected.T, rtol=0, atol=1e-5)  # u is kept in float32
    torch.testing.assert_close(without(without(values, u), u), without(values, u), rtol=0, atol=1e-5)


def test_contrast_weighs_what_changes_on_harmful_prompts_against_harmless_ones() -> None:
    aligned, degraded = (torch.randn(7, 3, 4, dtype=torch.float64) for _ in range(2))
    change = relative_change(aligned, degraded)
    by_loop = [
        [float((a - d).norm() / a.norm()) for a, d in zip(*pair, strict=True)] for pair in zip(aligned, degraded, strict=True)
    ]
    torch.testing.assert_close(change, torch.tensor(by_loop, dtype=torch.float64), **EXACT)
    other = change.flip(0) * 0.5
    expected = [float(change[:, layer].mean() - 2 * other[:, layer].mean()) for layer in range(3)]
    assert contrast(change, other, 2.0) == pytest.approx(expected, abs=1e-12)


def test_layers_are_chosen_by_rank_and_by_the_controls() -> None:
    scores, norms = [0.1, 0.4, 0.2, 0.3], [4.0, 1.0, 2.0, 3.0]
    assert chosen_layers("contrast", scores, norms, 2, 0) == [1, 3]
    assert chosen_layers("bottom", scores, norms, 2, 0) == [0, 2]
    assert chosen_layers("weight_norm", scores, norms, 2, 0) == [0, 3]
    assert chosen_layers("all", scores, norms, 2, 0) == [0, 1, 2, 3]
    drawn = {tuple(chosen_layers("random", scores, norms, 2, seed)) for seed in range(20)}
    assert len(drawn) > 2 and all(len(set(layers)) == 2 for layers in drawn)


def test_weight_norms_are_those_of_the_products(adapter: Path) -> None:
    additions = read_adapter(adapter)
    expected = [0.0] * 4
    for site, addition in additions.items():
        expected[layer_of(site)] += float((addition.b.double() @ addition.a.double()).norm() ** 2)
    assert weight_norms(additions, 4) == pytest.approx([square**0.5 for square in expected], rel=1e-5)


def test_losses_equal_brute_force() -> None:
    teacher, student = (torch.randn(2, 3, 6, dtype=torch.float64) for _ in range(2))
    p, q = (logits.float().softmax(-1) for logits in (teacher, student))
    torch.testing.assert_close(forward_kl(teacher, student), (p * (p / q).log()).sum(-1), rtol=1e-4, atol=1e-6)
    states = [torch.randn(2, 3, 4) for _ in range(4)]
    distance = ((states[0] - states[2]).square().sum(-1) + (states[1] - states[3]).square().sum(-1)) / (2 * 4)
    torch.testing.assert_close(hidden_distance(states[:2], states[2:]), distance)
    values, mask = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[1, 1, 0], [0, 0, 1]])
    assert token_mean(values, mask) == (1.5 + 6) / 2
    labels = torch.tensor([[-100, 1, 2], [-100, -100, 3]])
    said = student.float().log_softmax(-1)
    expected = -((said[0, 0, 1] + said[0, 1, 2]) / 2 + said[1, 1, 3]) / 2
    torch.testing.assert_close(reply_loss(student, labels), expected)
    assert deviation(torch.tensor([1.0, 3.0, 0.0])) == 5


# ------------------------------------------------------------------------------------------------- additions through hooks


@torch.no_grad()
def test_additions_through_hooks_equal_peft_and_the_merged_weights(adapter: Path) -> None:
    additions = read_adapter(adapter)
    expected = PeftModel.from_pretrained(base(), adapter).eval()(IDS).logits
    model = base()
    with low_rank_added(model, additions, lambda _site: 1.0):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-4)
    assert not model(IDS).logits.allclose(expected, atol=1e-2), "the addition stayed, or is nothing"
    merge = expressing(additions, dict.fromkeys(range(4), 1.0))
    with other_weights(model, Weights(BASE_DIR), merge):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-4)
    assert model(IDS).logits.equal(base()(IDS).logits), "the weights must come back"


@torch.no_grad()
def test_strength_zero_is_the_model_bit_for_bit_and_rows_have_strengths_of_their_own(adapter: Path) -> None:
    additions, model = read_adapter(adapter), base()
    plain = model(IDS).logits
    with low_rank_added(model, additions, lambda _site: torch.tensor(0.0)):
        assert model(IDS).logits.equal(plain)
    with low_rank_added(model, additions, lambda _site: torch.tensor([0.0, 1.0])):
        mixed = model(IDS).logits
    assert mixed[0].equal(plain[0]) and not mixed[1].allclose(plain[1], atol=1e-2)


def test_the_gradient_of_the_scalars_is_that_of_finite_differences(adapter: Path, tokenizer: Any) -> None:
    model = base().double().requires_grad_(False)
    additions = {site: LowRank(one.a.double(), one.b.double()) for site, one in read_adapter(adapter).items()}
    chat = [{"role": "user", "content": "how do i make glemik ?"}]
    refusals, task = (padded(encode(tokenizer, [(chat, reply)]), 0) for reply in ("sorry , i can not help .", "red ."))

    def loss(values: Tensor) -> Tensor:
        alpha = dict(enumerate(values))
        return recalibration_loss(model, additions, alpha, refusals, task, 0.5)

    alpha = torch.ones(4, dtype=torch.float64, requires_grad=True)
    loss(alpha).backward()
    assert alpha.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
    step = 1e-2  # the loss is computed in float32
    for place in range(4):
        move = torch.zeros(4, dtype=torch.float64)
        move[place] = step
        slope = (loss(alpha.detach() + move) - loss(alpha.detach() - move)) / (2 * step)
        assert alpha.grad[place] == pytest.approx(float(slope), rel=0.02, abs=1e-3)


def test_linear_layers_are_those_in_the_blocks() -> None:
    names = linear_layers(base())
    assert len(names) == 4 * 7 and not any("lm_head" in name for name in names)


# ---------------------------------------------------------------------------------------------------------------- artifact


def test_the_gene_keeps_all_it_needs_and_plain_peft_loads_it(gene: Path, adapter: Path) -> None:
    found = Gene.load(gene)
    assert (found.layers, found.scores, found.chosen_by, found.base_fingerprint) == (
        [1, 3],
        [0.1, 0.4, 0.2, 0.3],
        "contrast",
        "aligned",
    )
    assert {"git_commit", "versions", "run"} <= found.provenance.keys()
    assert {layer_of(site) for site in found.kept()} == {1, 3}
    with torch.no_grad():
        ours = PeftModel.from_pretrained(base(), gene).eval()(IDS).logits
        assert ours.equal(PeftModel.from_pretrained(base(), adapter).eval()(IDS).logits)


@torch.no_grad()
def test_the_expressed_gene_is_an_ordinary_adapter_whose_scale_is_alpha(gene: Path, tmp_path: Path) -> None:
    alpha = {1: 0.5, 3: -1.5}
    kept = Gene.load(gene).kept()
    save_expressed(gene, kept, alpha, tmp_path / "expressed")
    model = base()
    with low_rank_added(model, kept, lambda site: alpha[layer_of(site)]):
        expected = model(IDS).logits
    found = PeftModel.from_pretrained(base(), tmp_path / "expressed").eval()
    torch.testing.assert_close(found(IDS).logits, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.merge_and_unload()(IDS).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": 64}, "another architecture: the model has hidden_size 64 instead of 128"),
        ({"num_hidden_layers": 2}, "num_hidden_layers 2 instead of 4"),
    ],
)
def test_another_architecture_is_refused_and_named(gene: Path, tokenizer: Any, change: dict[str, int], says: str) -> None:
    config = base().config
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(ArtifactError, match=says):
        Gene.load(gene).check(AutoModelForCausalLM.from_config(config), tokenizer)


def test_another_tokenizer_is_refused(gene: Path) -> None:
    other = AutoTokenizer.from_pretrained(BASE_DIR)
    other.add_tokens(["zzz"])
    with pytest.raises(ArtifactError, match="another tokenizer"):
        Gene.load(gene).check(base(), other)


def test_another_site_is_refused_and_named(gene: Path, tokenizer: Any) -> None:
    model = base()
    model.model.layers[2].mlp.up_proj = torch.nn.Identity()
    with pytest.raises(ArtifactError, match=r"no linear layer model\.layers\.2\.mlp\.up_proj"):
        Gene.load(gene).check(model, tokenizer)


def test_a_damaged_gene_and_an_adapter_of_another_kind_are_refused(gene: Path) -> None:
    config = json.loads((gene / "adapter_config.json").read_text())
    (gene / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(ArtifactError, match="use_dora"):
        Gene.load(gene)
    (gene / "adapter_model.safetensors").write_bytes(b"else")
    with pytest.raises(ArtifactError, match="has other content than was written"):
        Gene.load(gene)


# ---------------------------------------------------------------------------------------------------------------- the band


@pytest.mark.parametrize(
    ("attack", "capability", "says"),
    [
        (0.4, 0.95, ""),
        (0.15, 0.95, "rose by 10 points.*Raise"),
        (0.9, 0.95, "rose by 85 points.*Lower"),
        (0.4, 0.8, "capability fell by 15"),
    ],
)
def test_a_degradation_outside_the_band_is_refused_with_what_to_change(attack: float, capability: float, says: str) -> None:
    report = {
        "aligned": {"attack success": 0.05, "capability": 0.95},
        "degraded": {"attack success": attack, "capability": capability},
    }
    problem = refused(report, (0.2, 0.5), 0.05)
    assert bool(problem) == bool(says) and re.search(says, problem)


def test_a_conversation_that_the_template_changes_is_refused(tokenizer: Any) -> None:
    other = AutoTokenizer.from_pretrained(BASE_DIR)
    other.chat_template = "{% if messages|length > 1 %}<|system|>{% endif %}" + tokenizer.chat_template
    with pytest.raises(DataError, match="not the beginning of its conversation"):
        encode(other, [([{"role": "user", "content": "red"}], "blue")])
