"""Hooks on decoder blocks of several architectures, against what the same change by hand gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.errors import ConfigError
from trainer.models.blocks import ablated, bake, decoder_blocks, recorded_inputs, steered

LAYERS, HIDDEN, VOCABULARY = 3, 32, 101
COMMON = {
    "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "intermediate_size": 48, "vocab_size": VOCABULARY,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen3": GROUPED,
    "mistral": GROUPED,
    "gemma": GROUPED,
    "gemma2": GROUPED,
    "gpt_neox": {},
    "mixtral": {**GROUPED, "num_local_experts": LAYERS, "num_experts_per_tok": 2},
}
FAMILIES = list(CONFIGS)
WRITERS = ("self_attn", "mlp", "attention")  # what writes to the residual stream, by its name in these families
MLP_BIAS_WORKS = ["llama", "qwen3", "mistral", "gemma", "gpt_neox"]


def tiny(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**COMMON, **CONFIGS.get(family, {}), **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)  # the libraries' 0.02 would leave the blocks with little to say
        elif "bias" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def tokens() -> Tensor:
    return torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))


def direction() -> Tensor:
    return torch.randn(HIDDEN, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=tokens()).logits
    return found


def inputs_of_blocks(model: Any) -> list[Tensor]:
    with torch.no_grad(), recorded_inputs(model, lambda hidden: hidden) as records:
        model(input_ids=tokens())
    return records


# ------------------------------------------------------------------------------------------------------------ finding
@pytest.mark.parametrize("family", FAMILIES)
def test_the_blocks_of_every_family_are_found_also_under_an_adapter(family: str) -> None:
    model = tiny(family)
    blocks = decoder_blocks(model)
    assert [type(block).__name__ for block in blocks] == [type(blocks[0]).__name__] * LAYERS
    assert "Layer" in type(blocks[0]).__name__
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert decoder_blocks(adapted) is blocks


def test_a_model_whose_blocks_cannot_be_told_is_refused_by_name() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(ConfigError, match="LlamaForCausalLM has 0 lists of 7 modules"):
        decoder_blocks(model)
    model = tiny("llama")
    model.second = torch.nn.ModuleList(tiny("llama").model.layers)
    with pytest.raises(ConfigError, match="LlamaForCausalLM has 2 lists of 3 modules"):
        decoder_blocks(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_inputs_are_the_hidden_states_of_transformers(family: str) -> None:
    model = tiny(family)
    with torch.no_grad():
        expected = model(input_ids=tokens(), output_hidden_states=True).hidden_states[:LAYERS]
    for found, wanted in zip(inputs_of_blocks(model), expected, strict=True):
        torch.testing.assert_close(found, wanted)


# ----------------------------------------------------------------------------------------------------------- steering
@pytest.mark.parametrize("family", FAMILIES)
def test_steering_adds_the_vector_at_one_layer_and_every_position_and_is_gone_afterwards(family: str) -> None:
    model, vector = tiny(family), direction()
    plain, before = inputs_of_blocks(model), logits(model)
    with steered(model, 1, vector):
        changed = inputs_of_blocks(model)
        assert not torch.allclose(logits(model), before, atol=1e-3)
    torch.testing.assert_close(changed[0], plain[0])
    torch.testing.assert_close(changed[1], plain[1] + vector)
    assert not torch.allclose(changed[2], plain[2], atol=1e-3)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_a_cache_is_steered_at_every_step(family: str) -> None:
    model = tiny(family)
    with torch.no_grad(), steered(model, 1, 3 * direction()):
        generated = model.generate(
            input_ids=tokens(), attention_mask=torch.ones_like(tokens()), max_new_tokens=6, do_sample=False,
            eos_token_id=None, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        whole = model(input_ids=generated.sequences[:, :-1]).logits[:, -6:]
    torch.testing.assert_close(torch.stack(generated.logits, 1), whole, atol=1e-4, rtol=1e-4)


def test_steering_takes_the_dtype_of_the_model() -> None:
    model = tiny("llama").to(torch.bfloat16)
    with steered(model, 2, direction().double()):
        assert logits(model).dtype == torch.bfloat16


def test_gradients_are_the_same_with_gradient_checkpointing() -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        model = tiny("llama").train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        with steered(model, 1, direction()):
            loss = model(input_ids=tokens(), labels=tokens()).loss
        loss.backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("layer", "size"), [(LAYERS, HIDDEN), (-1, HIDDEN), (1, HIDDEN + 1), (1, 1)])
def test_a_direction_that_does_not_fit_the_model_is_refused(layer: int, size: int) -> None:
    with (
        pytest.raises(ConfigError, match="does not fit LlamaForCausalLM, which has 3 layers of 32"),
        steered(tiny("llama"), layer, torch.ones(size)),
    ):
        pass


# ----------------------------------------------------------------------------------------------------------- ablation
@pytest.mark.parametrize("family", FAMILIES)
def test_ablation_leaves_nothing_along_the_direction(family: str) -> None:
    model, vector = tiny(family), 5 * direction()
    unit = vector / vector.norm()
    assert all((hidden @ unit).abs().max() > 1e-3 for hidden in inputs_of_blocks(model))
    written: list[Tensor] = []
    writers = [child for block in decoder_blocks(model) for name, child in block.named_children() if name in WRITERS]
    with ablated(model, vector):
        for writer in writers:  # hooked later, so it sees what is left
            writer.register_forward_hook(lambda _, args, out: written.append(out[0] if isinstance(out, tuple) else out))
        assert all((hidden @ unit).abs().max() < 1e-5 for hidden in inputs_of_blocks(model))
    assert len(written) == 2 * LAYERS
    assert all((output @ unit).abs().max() < 1e-5 for output in written)


def test_ablation_keeps_what_is_orthogonal_to_the_direction() -> None:
    model, vector = tiny("llama"), direction()
    unit = vector / vector.norm()
    plain = inputs_of_blocks(model)[0]
    with ablated(model, vector):
        found = inputs_of_blocks(model)[0]
    torch.testing.assert_close(found, plain - (plain @ unit)[..., None] * unit)


def test_a_model_without_an_mlp_module_cannot_be_ablated() -> None:
    opt = tiny("opt", ffn_dim=48, word_embed_proj_dim=HIDDEN)
    with (
        pytest.raises(ConfigError, match="OPTDecoderLayer has 1 attention modules and 0 MLP modules"),
        ablated(opt, direction()),
    ):
        pass


# ------------------------------------------------------------------------------------------------------------- baking
@pytest.mark.parametrize("family", MLP_BIAS_WORKS)
@pytest.mark.parametrize("layer", [1, 2])
def test_a_baked_model_is_the_steered_model(family: str, layer: int) -> None:
    model, vector = tiny(family), direction()

    def sampled() -> list[list[int]]:
        torch.manual_seed(0)
        output = model.generate(
            input_ids=tokens(), attention_mask=torch.ones_like(tokens()), max_new_tokens=8, do_sample=True, eos_token_id=None
        )
        found: list[list[int]] = output.tolist()
        return found

    with steered(model, layer, vector):
        expected, samples = logits(model), sampled()
    bake(model, layer, vector)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert sampled() == samples


def test_baking_twice_adds_up() -> None:
    model, vector = tiny("llama"), direction()
    with steered(model, 2, 2 * vector):
        expected = logits(model)
    bake(model, 2, vector)
    bake(model, 2, vector)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", MLP_BIAS_WORKS)
def test_bake_says_truly_whether_plain_transformers_can_load_it_again(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    assert bake(model, 2, direction()) == (family in ("llama", "gpt_neox"))
    expected = logits(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.allclose(logits(loaded), expected, atol=1e-5) == (family in ("llama", "gpt_neox"))


def test_a_half_precision_model_can_be_baked() -> None:
    model, vector = tiny("llama").to(torch.bfloat16), 0.1 * direction()
    assert bake(model, 1, vector)


REFUSED = [
    ("gemma2", {}, 1, "Gemma2DecoderLayer does not reach the next block as it is"),  # normed before it is added
    ("granite", {**GROUPED, "residual_multiplier": 0.5}, 1, "scaled or normed"),
    ("mixtral", CONFIGS["mixtral"], 1, "does not end in a linear layer"),
    ("gpt2", {}, 1, "GPT2Block does not end in a linear layer"),
    ("llama", GROUPED, 0, "layer 0 has no block before it"),
]


@pytest.mark.parametrize(("family", "changes", "layer", "why"), REFUSED, ids=[f"{r[0]}-{r[2]}" for r in REFUSED])
def test_where_no_bias_can_carry_the_direction_the_model_stays_as_it_was(
    family: str, changes: dict[str, Any], layer: int, why: str
) -> None:
    model = tiny(family, **changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match=why):
        bake(model, layer, direction())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
