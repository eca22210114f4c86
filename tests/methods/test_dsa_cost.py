"""Counted costs against the modules themselves and against PyTorch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from tests.methods.test_dsa_adapters import SMALL, base, hidden_of
from tests.models.test_blocks import HIDDEN, LAYERS, VOCABULARY, tokens
from trainer.methods.dsa.adapter_config import ALIGNERS, AdapterConfig
from trainer.methods.dsa.base import BaseSizes, head_logits
from trainer.methods.dsa.cost import adapter_flops, adapter_parameters, aligner_cost, base_cost, guardrail_cost
from trainer.methods.dsa.factory import make_adapter, make_aligner, make_guardrail
from trainer.methods.dsa.standalone import Standalone, matched_width

TOKENS = 18  # 2 rows of 9
MORE = [*SMALL.values(), AdapterConfig("plr"), AdapterConfig("lst", reduction=4, every=2), AdapterConfig("lld", last_layers=1)]


def counted(call: Any) -> float:
    """Operations per token; attention in plain matrix products, which the counter sees."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / TOKENS


def trained(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("config", MORE, ids=str)
def test_parameters_and_operations_of_an_adapter_are_counted_exactly(config: AdapterConfig) -> None:
    model, mask = base("llama"), torch.ones(2, 9)
    sizes, hidden = BaseSizes.of(model), hidden_of(model, tokens())
    adapter = make_adapter(config, model)
    assert adapter_parameters(config, HIDDEN, LAYERS, sizes.block_parameters) == trained(adapter)
    assert adapter_flops(config, sizes, 9) == counted(lambda: adapter(hidden, mask))
    guardrail = make_guardrail(config, model, ["prompt", "response"])
    assert guardrail_cost(config, sizes, 2, 9).parameters == trained(guardrail)


@pytest.mark.parametrize("kind", ALIGNERS)
def test_an_aligner_is_counted_with_its_second_use_of_the_head(kind: str) -> None:
    model, mask = base("llama"), torch.ones(2, 9)
    hidden, aligner = hidden_of(model, tokens()), make_aligner(SMALL[kind], model)
    cost = aligner_cost(SMALL[kind], BaseSizes.of(model), 9)
    assert cost.parameters == trained(aligner)
    assert cost.flops == counted(lambda: head_logits(model, aligner.states(hidden, mask)))


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt_neox"])
def test_the_base_is_counted_exactly(family: str) -> None:
    model = base(family)
    cost = base_cost(BaseSizes.of(model), 9)
    assert cost.parameters == model.num_parameters()
    assert cost.flops == counted(lambda: model(input_ids=tokens(), use_cache=False))


@pytest.fixture(scope="module")
def seven_billion() -> BaseSizes:
    """Mistral 7B, without its weights."""
    config = AutoConfig.for_model("mistral", intermediate_size=14336, num_key_value_heads=8, vocab_size=32000)
    with torch.device("meta"):
        return BaseSizes.of(AutoModelForCausalLM.from_config(config))


def test_an_lst_guardrail_costs_a_7b_base_less_than_one_percent(seven_billion: BaseSizes) -> None:
    assert (seven_billion.hidden, seven_billion.layers) == (4096, 32)
    whole, cost = base_cost(seven_billion, 512), guardrail_cost(AdapterConfig("lst"), seven_billion, 2, 512)
    aligner = aligner_cost(AdapterConfig("lst"), seven_billion, 512)
    assert aligner.parameters / whole.parameters == pytest.approx(0.0084, abs=0.00005)
    assert cost.parameters < aligner.parameters
    assert cost.flops < 0.01 * whole.flops


def test_guardrails_grow_from_plr_to_rtb_to_lst(seven_billion: BaseSizes) -> None:
    costs = [guardrail_cost(AdapterConfig(kind), seven_billion, 2, 512) for kind in ("plr", "rtb", "lst")]
    for name in ("parameters", "flops"):
        values = [getattr(cost, name) for cost in costs]
        assert values == sorted(set(values))


@pytest.mark.parametrize(("hidden", "layers"), [(4096, 32), (2560, 36), (1024, 24), (896, 24), (256, 6)])
@pytest.mark.parametrize("every", [1, 2])
def test_the_standalone_guardrail_has_as_many_parameters_as_the_ladder(hidden: int, layers: int, every: int) -> None:
    config = AdapterConfig("lst", every=every)
    with torch.device("meta"):
        alone = Standalone(config, hidden, layers, 50, causal=True, labels=["prompt"])
    without_embedding = trained(alone) - alone.embedding.weight.numel() - trained(alone.head)
    assert without_embedding == pytest.approx(adapter_parameters(config, hidden, layers), rel=0.05)
    assert len(alone.blocks) == len(config.ladder_layers(layers))


def test_the_standalone_guardrail_does_as_many_operations_as_the_ladder() -> None:
    config, model = AdapterConfig("lst", reduction=2), base("llama")
    alone = Standalone(config, HIDDEN, LAYERS, VOCABULARY, causal=True, labels=["prompt"])
    assert alone.width == matched_width(config, HIDDEN, LAYERS)
    found = counted(lambda: alone(tokens(), torch.ones(2, 9), torch.tensor([8, 8])))
    assert found == pytest.approx(guardrail_cost(config, BaseSizes.of(model), 1, 9).flops, rel=0.1)
