"""The memory model against what torch, transformers, TRL and DeepSpeed really do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from trainer.config.schema import ModelSection
from trainer.plan.memory import (
    Layout,
    Optimizer,
    bucket_bytes,
    estimate,
    gradient_bytes,
    loss_bytes,
    optimizer_bytes,
    saved_bytes,
    weight_bytes,
)
from trainer.plan.shape import Shape, shape_of

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "tie_word_embeddings": False,
}
LAYOUT = Layout(
    world=4, zero=2, dtype_bytes=2, micro_batch=2, sequences=1, length=96, accumulates=True, checkpointing=False,
    eager=False, adapter_dropout=False, optimizer=Optimizer(), second_model=False, on_gpu=False,
)  # fmt: skip


def small(kind: str = "llama") -> Shape:
    return shape_of(ModelSection(random_init={"model_type": kind, **SIZES}, tokenizer="unused"))


def small_model(kind: str, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES), dtype=dtype, attn_implementation="sdpa")


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_saved_activations_are_those_that_autograd_saves(kind: str, dtype: torch.dtype, checkpointing: bool) -> None:
    model = small_model(kind, dtype)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point():
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    layout = replace(LAYOUT, dtype_bytes=dtype.itemsize, checkpointing=checkpointing)
    tokens = torch.randint(0, 4096, (layout.micro_batch, layout.length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.base_model(input_ids=tokens).last_hidden_state
    keep(output)  # the loss saves it
    assert saved_bytes(small(kind), layout) == pytest.approx(sum(saved.values()), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_takes_what_trls_fused_head_allocates(dtype: torch.dtype) -> None:
    from trl.trainer.utils import add_fused_lm_head

    model, layout = small_model("llama", dtype), replace(LAYOUT, dtype_bytes=dtype.itemsize)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    tokens = torch.randint(0, 4096, (layout.micro_batch, layout.length))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        model(input_ids=tokens, labels=tokens, fused_lm_head=True).loss.backward()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert saved_bytes(small(), layout) + loss_bytes(small(), layout) == pytest.approx(peak, rel=0.05)


def test_model_states_are_what_deepspeed_estimates() -> None:
    """Its estimators count 2 bytes a parameter, and 2 + 4 + 4 + 8 that are sharded, the fp32 gradients of the step among
    them; for stage 3 they leave the 2 of the (sharded) weights out."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    shape = replace(small(), parameters=8_000_000_000, trainable=8_000_000_000)
    two, three = replace(LAYOUT, world=16), replace(LAYOUT, world=16, zero=3)

    def states(layout: Layout) -> float:
        fp32_gradients = 4 * shape.trainable / layout.world
        return weight_bytes(shape, layout) + optimizer_bytes(shape, layout) + gradient_bytes(shape, layout) + fp32_gradients

    _, theirs = estimate_zero2_model_states_mem_needs(shape.parameters, 8, 2, cpu_offload=False)
    assert states(two) == pytest.approx(theirs)
    _, theirs, largest = estimate_zero3_model_states_mem_needs(shape.parameters, 0, 8, 2, cpu_offload=False)
    assert states(three) - weight_bytes(shape, three) == pytest.approx(theirs - largest)


def test_higher_stages_and_more_ranks_never_need_more_for_the_states() -> None:
    shape = replace(small(), parameters=10**9, trainable=10**9)

    def states(zero: int, world: int) -> float:
        layout = replace(LAYOUT, zero=zero, world=world)
        return weight_bytes(shape, layout) + optimizer_bytes(shape, layout) + gradient_bytes(shape, layout)

    assert states(1, 8) > states(2, 8) > states(3, 8) > states(3, 16)
    assert states(3, 16) == pytest.approx(states(3, 8) / 2)


def test_offload_moves_the_optimiser_out_of_the_gpu() -> None:
    shape = replace(small(), parameters=10**9, trainable=10**9)
    stays, goes = estimate(shape, LAYOUT), estimate(shape, replace(LAYOUT, offload_optimizer=True))
    assert goes.peak < stays.peak and goes.moments["step"]["optimiser"] == 0
    assert goes.host >= optimizer_bytes(shape, LAYOUT) and stays.host == 0


def test_the_reference_counts_only_where_it_stands_in_memory() -> None:
    shape = replace(small(), parameters=10**9, trainable=10**9)
    second = estimate(shape, replace(LAYOUT, second_model=True))
    assert second.peak - estimate(shape, LAYOUT).peak == 2 * 10**9
    assert estimate(shape, replace(LAYOUT, second_model=True, zero=3)).moments["loss"]["reference"] == 2 * 10**9 / 4


def test_every_moment_is_the_sum_of_its_parts_and_the_peak_is_the_largest() -> None:
    memory = estimate(small(), LAYOUT)
    assert memory.peak == max(sum(parts.values()) for parts in memory.moments.values())
    assert memory.total(memory.peak_moment) == memory.peak


def test_an_adapter_needs_states_for_itself_alone() -> None:
    whole = small()
    adapter = shape_of(ModelSection(random_init={"model_type": "llama", **SIZES}, tokenizer="unused", lora={"r": 4}))
    linear = 128 * 2 + (128 + 64) * 2 + (128 + 384) * 3 + 128 * 2  # in + out of q, k and v, gate, up and down, o
    assert adapter.trainable == 4 * 3 * linear and adapter.parameters == whole.parameters
    assert optimizer_bytes(adapter, LAYOUT) < optimizer_bytes(whole, LAYOUT) / 20


def test_buckets_follow_deepspeeds_own_setting() -> None:
    assert bucket_bytes(small(), replace(LAYOUT, reduce_bucket=1000)) == 2000
    assert bucket_bytes(small(), replace(LAYOUT, reduce_bucket=1000, overlap_comm=True)) == 4000
    assert bucket_bytes(small(), replace(LAYOUT, reduce_bucket=1000, overlap_comm=True, zero=3)) == 2000
