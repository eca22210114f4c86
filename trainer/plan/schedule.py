"""How long a stage is and how long it may take: examples, steps, tokens, arithmetic, seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.config.devices import Device
from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.config.training import accumulation_steps, stage_fields
from trainer.plan.layout import field
from trainer.plan.memory import Layout
from trainer.plan.shape import Shape

UTILISATION = 0.35  # of the device's peak: assumed, as is usual for full fine-tuning under ZeRO with short sequences


@dataclass(frozen=True)
class Schedule:
    """Attributes:
    world, global_batch, accumulation: ranks, examples in one optimiser step, micro-steps in it.
    examples: of one epoch, before rows are left out; None where the data is not on this machine.
    steps: optimiser steps; None where the number of examples decides it and is not known.
    step_tokens: the most that one step can have, every sequence as long as it may be.
    step_flops: of one step on all ranks.
    step_seconds: an estimate; None without a device. sampling_seconds: of these, those that sampling takes.
    """

    world: int
    global_batch: int
    accumulation: int
    examples: int | None
    steps: int | None
    step_tokens: int
    step_flops: float
    step_seconds: float | None
    sampling_seconds: float | None

    @property
    def seconds(self) -> float | None:
        return None if self.steps is None or self.step_seconds is None else self.steps * self.step_seconds


def _multiplied(shape: Shape) -> int:
    """Weights that a token is multiplied with: all but an embedding that is not the head too."""
    return shape.parameters - (0 if shape.tied else shape.vocabulary * shape.hidden)


def flops_per_token(shape: Shape, layout: Layout) -> float:
    """Of training. Forward: 2 per weight that is multiplied with, and causal attention; backward: twice that, or once where
    only an adapter is trained; the forward pass again with checkpointing; and those without a gradient."""
    forward = 2 * _multiplied(shape) + 2 * shape.layers * layout.length * shape.query
    backward = 2 if shape.trainable == shape.parameters else 1
    return float(forward * (1 + backward + layout.checkpointing + layout.forwards))


def sampling_seconds(shape: Shape, layout: Layout, device: Device) -> float:
    """The least that a step's samples can take: a rank reads the weights from its memory once for every token."""
    tokens = 0 if layout.rollout is None else layout.rollout.completion
    return tokens * layout.dtype_bytes * _multiplied(shape) / (device.bandwidth * 1e9)


def schedule_of(
    config: RunConfig, training: Training, shape: Shape, layout: Layout, examples: int | None, device: Device | None
) -> Schedule:
    """Raises ValueError where the global batch does not divide; a config that was checked does not get here then."""
    accumulation = accumulation_steps(config, training, layout.world)
    batch = layout.micro_batch * layout.world * accumulation
    most = int(stage_fields(config, training).get("max_steps", -1))
    steps = None
    if most > 0:
        steps = most
    elif examples is not None:
        whole = examples // batch if layout.rollout is not None else math.ceil(examples / batch)
        steps = math.ceil(whole * float(field(config, training, "num_train_epochs")))
    tokens = batch * layout.sequences * layout.length
    flops = tokens * flops_per_token(shape, layout)
    sampled = 0 if layout.rollout is None else batch * layout.rollout.completion
    sampling = seconds = None
    if device is not None:
        sampling = sampling_seconds(shape, layout, device)
        seconds = sampling + flops / (layout.world * device.tflops * 1e12 * UTILISATION)
    flops += 2.0 * _multiplied(shape) * sampled
    return Schedule(layout.world, batch, accumulation, examples, steps, tokens, flops, seconds, sampling)
