"""Memory of one rank, by part, in the moments where it can be highest.

    rollout     the student samples completions; only in a stage that learns from them
    loss        the forward pass is over, every saved activation is there, the loss takes its working memory
    backward    gradients grow while activations go: the larger of its two ends
    step        the optimiser turns gradients into new weights

Sources. N parameters, of which P are trained; W ranks; b bytes of a weight (2 in bfloat16, 4 in float32).

- Weights b N, gradients b P, optimiser 4 P (fp32 master copy) + 4 s P (s states; 2 for Adam), each divided by W from ZeRO
  stage 3, 2 and 1 on: Rajbhandari et al., arXiv 1910.02054, section 3.1 and 5. DeepSpeed keeps the master copy in float32
  training too. Stage 0 and runs without DeepSpeed keep none: s states in the weights' own dtype, which without DeepSpeed is
  float32 (b = 4 of weights and gradients that are trained), computed with in bfloat16 by autocast.
- Activations: Korthikanti et al., arXiv 2205.05198, section 4, counted again for a gated decoder layer as transformers
  writes it (RMSNorm in float32, no dropout, attention that keeps no score matrix).
- The loss: TRL's fused head. It never holds (tokens x vocabulary): tiles of 4,096 tokens x 32,768 words, and a float32
  gradient of the head's weight. A distillation from a teacher has its own: tiles of logits, and the gradient of the head's
  weight in that weight's dtype.
- Rollouts: transformers' `generate` with its cache, a step's samples in one batch.
- Buckets and gathered weights: DeepSpeed's `reduce_bucket_size`, `stage3_max_live_parameters`,
  `stage3_prefetch_bucket_size`, `sub_group_size`.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config.stage import Rollout
from trainer.plan.shape import Shape

TILE_TOKENS, TILE_WORDS = 4096, 32768  # of TRL's fused head
PARTS = (
    "weights", "optimiser", "gradients", "activations", "KV cache", "logits and loss", "reference", "teacher", "gathered",
    "autocast", "buckets",
)  # fmt: skip


@dataclass(frozen=True)
class Optimizer:
    """states: numbers kept for a weight, of `state_bytes` each. temporaries: copies in the step (0 where it is fused)."""

    states: int = 2
    state_bytes: int = 4
    temporaries: int = 0


@dataclass(frozen=True)
class Layout:
    """How a stage trains: all that its memory depends on besides the shape.

    Attributes:
        zero: DeepSpeed's ZeRO stage; None without DeepSpeed.
        dtype_bytes: of a number that is computed with, and of a weight unless `autocast`.
        autocast: weights are held in float32, and a forward pass makes copies of them to compute with.
        micro_batch: examples in one forward pass; `sequences` of `length` tokens in each (a DPO pair is two).
        accumulates: whether gradients of earlier micro-steps are there already in a forward pass.
        checkpointing: activations of a layer are computed again in the backward pass.
        eager: attention that keeps its score matrix.
        adapter_dropout: every adapter keeps its own dropped copy of its input, and the mask.
        second_model: a reference model, or a teacher, stands beside the trained one.
        forwards: forward passes without a gradient over every sequence, in every step.
        on_gpu: the fused head runs as a Triton kernel; elsewhere as torch operations with whole tiles in float32.
        rollout: None where a stage trains on given responses.
    """

    world: int
    zero: int | None
    dtype_bytes: int
    micro_batch: int
    sequences: int
    length: int
    accumulates: bool
    checkpointing: bool
    eager: bool
    adapter_dropout: bool
    optimizer: Optimizer
    second_model: bool
    on_gpu: bool
    forwards: int = 0
    rollout: Rollout | None = None
    autocast: bool = False
    offload_optimizer: bool = False
    offload_param: bool = False
    reduce_bucket: int = 500_000_000
    overlap_comm: bool = False
    max_live: int = 1_000_000_000
    prefetch: int = 50_000_000
    sub_group: int = 1_000_000_000

    @property
    def stored_bytes(self) -> int:
        """Of a weight as it is held."""
        return 4 if self.autocast else self.dtype_bytes

    @property
    def tokens(self) -> int:
        """Of one forward pass."""
        return self.micro_batch * self.sequences * self.length

    def shards(self, stage: int) -> int:
        """By how much something is divided that ZeRO shards from `stage` on."""
        return self.world if self.zero is not None and self.zero >= stage else 1


@dataclass(frozen=True)
class Memory:
    """Bytes by part for each moment, on the device that trains; `host` is what offloading puts into CPU memory."""

    moments: dict[str, dict[str, float]]
    host: float

    def total(self, moment: str) -> float:
        return sum(self.moments[moment].values())

    @property
    def peak(self) -> float:
        return max(self.total(moment) for moment in self.moments)

    @property
    def peak_moment(self) -> str:
        return max(self.moments, key=self.total)


def weight_bytes(shape: Shape, layout: Layout) -> float:
    """b N, sharded by stage 3."""
    return layout.stored_bytes * shape.parameters / layout.shards(3)


def optimizer_bytes(shape: Shape, layout: Layout) -> float:
    """Master copy and states; see the head of this file."""
    states = layout.optimizer
    if not layout.zero:
        size = states.states * min(states.state_bytes, layout.stored_bytes)
        return float(size * shape.trainable)
    return (4 + states.states * states.state_bytes) * shape.trainable / layout.shards(1)


def gradient_bytes(shape: Shape, layout: Layout) -> float:
    """b P, sharded by stage 2, once a backward pass is over."""
    return layout.stored_bytes * shape.trainable / layout.shards(2)


def layer_bytes(shape: Shape, layout: Layout) -> float:
    """What one decoder layer saves for its backward pass.

    A token of a bfloat16 layer keeps: for each of two norms 4h (its float32 input) + 2h (normalised) + 2h (scaled, the
    input of the projections); queries and attention's output 2q each, keys and values 2k each; gate, up, activation and
    product 2i each. In float32 the norm's input is not copied but kept itself: 4h + 4h + 4h, and everything else doubles.
    LoRA on all seven projections with dropout adds their inputs once more, and a byte a number for the mask.
    """
    b, h = layout.dtype_bytes, shape.hidden
    norms = 2 * (4 + 2 * b) * h
    qk = shape.query + shape.key_value
    attention = 2 * b * qk + (4 + b) * qk * int(shape.qk_norm)
    if layout.eager:
        attention += shape.heads * layout.length * (4 + (b if b < 4 else 0))
    mlp = 4 * b * shape.intermediate
    adapters = (b + 1) * (5 * h + shape.query + shape.intermediate) * layout.adapter_dropout
    return layout.tokens * (norms + attention + mlp + adapters)


def saved_bytes(shape: Shape, layout: Layout) -> float:
    """All that the forward pass saves: every layer, or with checkpointing only every layer's input; and the last norm."""
    b, h = layout.dtype_bytes, shape.hidden
    per_layer = b * h * layout.tokens if layout.checkpointing else layer_bytes(shape, layout)
    return shape.layers * per_layer + layout.tokens * (4 + 2 * b) * h


def passing_bytes(shape: Shape, layout: Layout, tokens: int) -> float:
    """What comes and goes beside a layer, forward or backward: three of the widest, three of the residual stream."""
    return float(tokens * 3 * layout.dtype_bytes * (shape.intermediate + shape.hidden))


def loss_bytes(shape: Shape, layout: Layout) -> float:
    """What the loss needs besides the student's hidden states."""
    return fused_head_bytes(shape, layout) if layout.rollout is None else localized_bytes(shape, layout, layout.rollout)


def fused_head_bytes(shape: Shape, layout: Layout) -> float:
    """The working memory of TRL's head in its backward pass, which needs more than its forward pass."""
    b, scored = layout.dtype_bytes, layout.micro_batch * layout.sequences * (layout.length - 1)
    tile = min(scored, TILE_TOKENS)
    total = float(tile * TILE_WORDS * b + 4 * scored * shape.hidden)
    if shape.trainable == shape.parameters:  # else the head is frozen
        total += shape.vocabulary * shape.hidden * (4 if b == 4 or not layout.on_gpu else 4 + b)
    if not layout.on_gpu:  # seven float32 copies of the tile and one of booleans
        total += 7.25 * 4 * tile * min(shape.vocabulary, TILE_WORDS)
    return total


def localized_bytes(shape: Shape, layout: Layout, rollout: Rollout) -> float:
    """Both models' hidden states at the scored positions, the tiles of logits, and float32 tiles of weights: two of the head's
    gradient, more where half-width weights are widened (not on a GPU, which copies a gradient's tile instead). And the larger
    of two: forward, the teacher's hidden states as they left it; backward, the gradients."""
    b, h, scored = layout.dtype_bytes, shape.hidden, layout.micro_batch * rollout.completion
    trained = shape.trainable == shape.parameters  # else the head is frozen
    columns = min(shape.vocabulary, rollout.tile_words)
    tile = min(scored, rollout.tile_tokens) * columns
    weight_tiles, copies = 2 * trained, 0
    if b < 4 and layout.on_gpu:
        copies = b * tile
    elif b < 4:
        weight_tiles, copies = rollout.tiles + 1, 2 * 4 * scored * h
    gradients = (4 + b) * scored * h + b * shape.vocabulary * h * trained
    tiles = 4 * (rollout.tiles * tile + weight_tiles * columns * h)
    return float(2 * b * scored * h + tiles + copies + max(b * layout.tokens * h, gradients))


def rollout_bytes(shape: Shape, layout: Layout, rollout: Rollout) -> dict[str, float]:
    """The larger of two moments: the prompts have been read; the last token is chosen, from a row's logits as the model
    gives them, three copies in float32 for its softmax and the running sum, and one left from the token before."""
    b = layout.dtype_bytes
    per_token = 2 * b * shape.key_value * shape.layers * rollout.samples
    prompt = layout.length - rollout.completion
    read = {"KV cache": float(per_token * prompt), "activations": passing_bytes(shape, layout, rollout.samples * prompt)}
    chosen = {
        "KV cache": float(per_token * layout.length),
        "logits and loss": float(rollout.samples * shape.vocabulary * (b + 4 * 4)),
    }
    return max((read, chosen), key=lambda parts: sum(parts.values()))


def bucket_bytes(shape: Shape, layout: Layout) -> float:
    """Staging of gradients on their way to the other ranks. Stage 3 and DistributedDataParallel hold it always, the other
    stages in the backward pass, stage 0 at its end."""
    b = layout.stored_bytes
    if layout.world == 1 and layout.zero is None:
        return 0.0
    if not layout.zero:  # DistributedDataParallel's buckets, or DeepSpeed's flattened copy
        return float(b * shape.trainable)
    copies = 2 if layout.overlap_comm and layout.zero < 3 else 1
    return float(copies * b * layout.reduce_bucket)


def gathered_bytes(shape: Shape, layout: Layout, whole: bool = False) -> float:
    """Whole weights that stage 3 has in hand: what it may keep alive (never less than a layer and the next), and the head,
    which the loss gathers for itself; at most everything, or where `whole` everything; and the head of a teacher that is a
    model of its own. A rank that is alone has all weights at hand, unless they are offloaded."""
    if layout.zero != 3 or (layout.world == 1 and not layout.offload_param):
        return 0.0
    if whole:
        return float(layout.dtype_bytes * shape.parameters)
    alive, head = max(layout.max_live + layout.prefetch, 2 * shape.layer_parameters), shape.vocabulary * shape.hidden
    teacher = head if layout.rollout is not None and layout.second_model else 0
    return float(layout.dtype_bytes * (min(shape.parameters, alive + head) + teacher))


def autocast_bytes(shape: Shape, layout: Layout) -> float:
    """Copies of the weights that a forward pass computed with, kept for its backward pass; of a layer where that runs again."""
    if not layout.autocast:
        return 0.0
    return float(layout.dtype_bytes * (shape.layer_parameters if layout.checkpointing else shape.parameters))


def step_bytes(shape: Shape, layout: Layout) -> float:
    """The optimiser step's own: gradients flattened and in float32, and the temporaries of an optimiser that is not fused."""
    b = layout.stored_bytes
    if not layout.zero:
        return float(layout.optimizer.temporaries * b * shape.trainable)
    share = shape.trainable / layout.world
    if layout.zero == 3:
        share = min(share, layout.sub_group)
    flattened = b if b < 4 else 0
    return (4 + flattened + 4 * layout.optimizer.temporaries) * share


def estimate(shape: Shape, layout: Layout) -> Memory:
    """Put the parts together for each moment."""
    weights, optimizer = weight_bytes(shape, layout), optimizer_bytes(shape, layout)
    gradients, whole_gradients = gradient_bytes(shape, layout), layout.stored_bytes * shape.trainable
    kept = gradients if layout.accumulates or layout.zero == 3 else 0.0  # stage 3 allocates its share once
    host = 0.0
    step = step_bytes(shape, layout)
    if layout.offload_optimizer and layout.zero:
        host += optimizer + 4 * shape.trainable / layout.world  # the float32 gradients go there too
        optimizer, step, gradients, kept = 0.0, 0.0, 0.0 if layout.zero > 1 else whole_gradients, 0.0
    if layout.offload_param and layout.zero == 3:
        host += weights
        weights = 0.0
    second = layout.stored_bytes * shape.parameters / layout.shards(3) if layout.second_model else 0.0
    if layout.offload_param and layout.second_model:
        host, second = host + second, 0.0
    layer, saved, buckets = layer_bytes(shape, layout), saved_bytes(shape, layout), bucket_bytes(shape, layout)
    passing = passing_bytes(shape, layout, layout.tokens)
    first = saved + (layer if layout.checkpointing else 0.0) + passing
    last = layer + passing
    always = {"weights": weights, "optimiser": optimizer, "reference" if layout.rollout is None else "teacher": second}
    gathered = {"gathered": gathered_bytes(shape, layout), "autocast": autocast_bytes(shape, layout)}
    at_start = {"gradients": kept, "activations": first}
    at_end = {"gradients": gradients, "activations": last}
    loss = {
        "gradients": kept,
        "activations": saved,
        "logits and loss": loss_bytes(shape, layout),
        "buckets": 0.0 if layout.zero == 0 else buckets,
    }
    backward = max((at_start, at_end), key=lambda parts: sum(parts.values()))
    lasting = buckets if layout.zero in (None, 3) else 0.0
    moments = {
        "loss": {**always, **gathered, **loss},
        "backward": {**always, **gathered, **backward, "buckets": buckets},
        "step": {**always, "gradients": gradients + step, "buckets": lasting},
    }
    if layout.rollout is not None:
        own = {**rollout_bytes(shape, layout, layout.rollout), "buckets": lasting}
        own["gradients"] = kept if layout.zero == 3 else 0.0
        own["gathered"] = gathered_bytes(shape, layout, whole=layout.rollout.gathers)
        moments = {"rollout": {**always, **own}, **moments}
    return Memory({name: {part: parts.get(part, 0.0) for part in PARTS} for name, parts in moments.items()}, host)
