"""SafeSteer's loss against the ways to compute such a loss: time and memory of forward and backward.

    OMP_NUM_THREADS=1 python -m benchmarks.safesteer_loss [--tokens 512] [--hidden 256] [--repeats 5] [--smoke] [--json FILE]

All get the same random hidden states and heads (student and teacher of one size, every student tensor wants a gradient), for
vocabularies of 32,000 and 152,000. The reference of the ratios is the kernel of TRL's distillation trainer at beta = 1.

Time is the median of the repeats; a repeat runs each contender once, so that a busy machine hits all. Memory is the peak of the
bytes allocated during forward and backward, less the bytes of the gradients, which every contender leaves behind. On CUDA it is
the allocator's peak; on a CPU it is the running sum of the allocations and frees that torch's profiler reports, which is exact,
also for memory that an operation takes and gives back inside (resident memory is neither). In bfloat16 the last two contenders
round the logits to bfloat16, which is cheaper; the others compute them in float32.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from statistics import median

import torch
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from benchmarks.common import CUDA, Rows, Table, options, publish
from trainer.methods.safesteer.loss import Head, localized_divergence

VOCABULARIES = (32_000, 152_000)
SAFETY_TOKENS = 50
LOOP_TOKENS = 128
REFERENCE = "TRL distillation kernel"


class Inputs:
    def __init__(self, tokens: int, hidden: int, vocabulary: int, dtype: torch.dtype, device: str):
        torch.manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device).to(dtype)

        self.student, self.teacher = draw(tokens, hidden).requires_grad_(), draw(tokens, hidden)
        self.weight = draw(vocabulary, hidden).div_(hidden**0.5).requires_grad_()
        self.teacher_weight = draw(vocabulary, hidden).div_(hidden**0.5)
        self.safety = torch.randperm(vocabulary, device=device)[:SAFETY_TOKENS]

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.student @ self.weight.t()).float(), (self.teacher @ self.teacher_weight.t()).float()


def ours(kind: str) -> Callable[[Inputs], torch.Tensor]:
    def loss(x: Inputs) -> torch.Tensor:
        student, teacher = Head(x.weight, None), Head(x.teacher_weight, None)
        return localized_divergence(x.student, student, x.teacher, teacher, x.safety, kind).loss.mean()

    return loss


def trl_kernel(x: Inputs) -> torch.Tensor:
    return ChunkedDivergenceFunction.apply(x.student, x.weight, None, x.teacher, x.teacher_weight, None, 1.0)[0].mean()


def trl_gkd(x: Inputs) -> torch.Tensor:
    from trl.experimental.gkd import GKDTrainer

    student, teacher = x.logits()
    return GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=1.0)


def plain_loop(x: Inputs) -> torch.Tensor:
    """The slice as one would first write it."""
    total = x.student.new_zeros((), dtype=torch.float32)
    for h, h_t in zip(x.student.split(LOOP_TOKENS), x.teacher.split(LOOP_TOKENS), strict=True):
        log_s = (h @ x.weight.t()).float().log_softmax(-1)[:, x.safety]
        log_t = (h_t @ x.teacher_weight.t()).float().log_softmax(-1)[:, x.safety]
        total = total + (log_s.exp() * (log_s - log_t)).sum()
    return total / len(x.student)


CONTENDERS: dict[str, Callable[[Inputs], torch.Tensor]] = {
    REFERENCE: trl_kernel,
    "ours, slice": ours("slice"),
    "ours, full": ours("full"),
    "TRL GKD loss on full logits": trl_gkd,
    "log_softmax in a loop, slice": plain_loop,
}


def step(loss: Callable[[Inputs], torch.Tensor], x: Inputs) -> None:
    x.student.grad = x.weight.grad = None
    loss(x).backward()
    if x.student.is_cuda:
        torch.cuda.synchronize()


def seconds(loss: Callable[[Inputs], torch.Tensor], x: Inputs) -> float:
    start = time.perf_counter()
    step(loss, x)
    return time.perf_counter() - start


def extra_bytes(loss: Callable[[Inputs], torch.Tensor], x: Inputs) -> int:
    x.student.grad = x.weight.grad = None
    gradients = x.student.nbytes + x.weight.nbytes
    if x.student.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(loss, x)
        return torch.cuda.max_memory_allocated() - before - gradients
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(loss, x)
    alive = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak - gradients


def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("--tokens", type=int, default=8192 if CUDA else 512)
    found.add_argument("--hidden", type=int, default=2560 if CUDA else 256)
    found.add_argument("--repeats", type=int, default=5)
    found.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16" if CUDA else "float32")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    os.environ |= {"KINETO_LOG_LEVEL": "99", "TRL_EXPERIMENTAL_SILENCE": "1"}
    vocabularies = VOCABULARIES
    if given.smoke:
        given.tokens, given.hidden, given.repeats, vocabularies = 16, 32, 1, (1_000,)
    columns = ("vocabulary", "loss", "time, s", "time ratio", "extra memory, MiB", "memory ratio")
    rows: Rows = []
    for vocabulary in vocabularies:
        x = Inputs(given.tokens, given.hidden, vocabulary, getattr(torch, given.dtype), "cuda" if CUDA else "cpu")
        memory = {name: extra_bytes(loss, x) for name, loss in CONTENDERS.items()}  # also the warm-up
        times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(given.repeats):
            for name, loss in CONTENDERS.items():
                times[name].append(seconds(loss, x))
        for name in CONTENDERS:
            ratio = median(times[name]) / median(times[REFERENCE]), memory[name] / memory[REFERENCE]
            rows.append(
                (f"{vocabulary:,}", name, f"{median(times[name]):.3f}", f"{ratio[0]:.2f}",
                 f"{memory[name] / 2**20:,.1f}", f"{ratio[1]:.3f}")
            )  # fmt: skip
    title = f"{given.dtype}, {given.tokens} tokens, hidden {given.hidden}, {given.repeats} repeats"
    publish(given, "safesteer_loss", title, [Table("Forward and backward", columns, rows)])


if __name__ == "__main__":
    main()
