"""The memory model against what torch, transformers, TRL and DeepSpeed really do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from trainer.config.sections import ModelSection
from trainer.config.stage import Rollout
from trainer.methods.safesteer.losses import TILE_TOKENS, TILE_VOCABULARY
from trainer.plan.memory import (
    Layout,
    Optimizer,
    bucket_bytes,
    estimate,
    gathered_bytes,
    gradient_bytes,
    loss_bytes,
    optimizer_bytes,
    rollout_bytes,
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

ROLLOUT = Rollout(completion=32, samples=8, tiles=2, tile_tokens=TILE_TOKENS, tile_words=TILE_VOCABULARY, gathers=False)
ON_POLICY = replace(LAYOUT, length=64, second_model=True, rollout=ROLLOUT)


def small(kind: str = "llama") -> Shape:
    return shape_of(ModelSection(random_init={"model_type": kind, **SIZES}, tokenizer="unused"))


def small_model(kind: str, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES), dtype=dtype, attn_implementation="sdpa")


def allocated(action: Callable[[], Any]) -> int:
    """The most bytes that were allocated at a time while it ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


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
    peak = allocated(lambda: model(input_ids=tokens, labels=tokens, fused_lm_head=True).loss.backward())
    assert saved_bytes(small(), layout) + loss_bytes(small(), layout) == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "tiles"), [("slice", 2), ("full", 3)])
def test_the_localized_loss_takes_what_it_allocates(dtype: torch.dtype, kind: Any, tiles: int) -> None:
    from trainer.methods.safesteer.loss import Head, localized_divergence

    shape = replace(small(), vocabulary=2 * TILE_VOCABULARY)
    layout = replace(ON_POLICY, dtype_bytes=dtype.itemsize, rollout=replace(ROLLOUT, tiles=tiles))
    model = small_model("llama", dtype)
    model.resize_token_embeddings(shape.vocabulary, mean_resizing=False)
    teacher_head = Head(model.lm_head.weight.detach().clone(), None)
    tokens = torch.randint(0, 4096, (layout.micro_batch, layout.length))

    def scored() -> torch.Tensor:
        hidden = model.base_model(input_ids=tokens).last_hidden_state[:, -ROLLOUT.completion :].flatten(0, 1)
        return localized_divergence(hidden, Head.of(model), hidden, teacher_head, torch.arange(10), kind).loss.mean()

    peak = allocated(lambda: scored().backward())
    assert saved_bytes(shape, layout) + loss_bytes(shape, layout) == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rollout_takes_what_sampling_allocates(dtype: torch.dtype) -> None:
    from trainer.methods.safesteer.rollouts import sample

    layout = replace(ON_POLICY, dtype_bytes=dtype.itemsize, length=24, rollout=replace(ROLLOUT, completion=8))
    model, prompts = small_model("llama", dtype), [[5] * 16] * ROLLOUT.samples

    def sampled() -> None:
        sample(model, prompts, range(ROLLOUT.samples), max_new_tokens=8, stop_tokens=[-1], pad_token=0)

    assert layout.rollout is not None
    assert sum(rollout_bytes(small(), layout, layout.rollout).values()) == pytest.approx(allocated(sampled), rel=0.15)


def test_the_localized_loss_holds_no_logits_of_all_tokens() -> None:
    """The head's gradient alone grows with the vocabulary; with a frozen head nothing does."""
    whole = replace(small(), vocabulary=32_000)
    frozen = replace(whole, trainable=1)
    layout = replace(ON_POLICY, on_gpu=True, micro_batch=64)
    more = 152_000 - 32_000

    def growth(shape: Shape) -> float:
        return loss_bytes(replace(shape, vocabulary=152_000), layout) - loss_bytes(shape, layout)

    assert growth(frozen) == 0
    assert growth(whole) == more * whole.hidden * layout.dtype_bytes
    assert growth(whole) < 64 * ROLLOUT.completion * more * 4 / 10  # logits in float32


def test_whole_weights_are_gathered_only_to_sample_and_only_where_that_is_wanted() -> None:
    shape = replace(small(), parameters=4 * 10**9, trainable=4 * 10**9)
    sharded = replace(ON_POLICY, zero=3)
    gathered = replace(sharded, rollout=replace(ROLLOUT, gathers=True))
    assert estimate(shape, gathered).moments["rollout"]["gathered"] == 2 * 4 * 10**9
    assert estimate(shape, gathered).peak_moment == "rollout"
    assert estimate(shape, sharded).peak < estimate(shape, gathered).peak
    assert estimate(shape, gathered).moments["loss"] == estimate(shape, sharded).moments["loss"]
    assert gathered_bytes(shape, replace(gathered, world=1), whole=True) == 0  # nobody to gather from


def test_model_states_are_what_deepspeed_estimates() -> None:
    """Its estimators count 2 bytes per parameter, and 2 + 4 + 4 + 8 that are sharded, the fp32 gradients of the step among
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


def test_a_teacher_of_its_own_costs_a_model_in_every_moment() -> None:
    shape = replace(small(), parameters=10**9, trainable=10**9)
    copy, shared = estimate(shape, ON_POLICY), estimate(shape, replace(ON_POLICY, second_model=False))
    for moment in ("rollout", "loss", "backward", "step"):
        assert copy.total(moment) - shared.total(moment) == copy.moments[moment]["teacher"] == 2 * 10**9
    assert estimate(shape, replace(ON_POLICY, zero=3)).moments["loss"]["teacher"] == 2 * 10**9 / 4


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
