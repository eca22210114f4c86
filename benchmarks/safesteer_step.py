"""A whole optimiser step of SafeSteer against TRL's two distillation trainers: time and memory.

    OMP_NUM_THREADS=1 python -m benchmarks.safesteer_step [--completion 32] [--layers 12] [--steps 3] [--smoke] [--json FILE]

Each case is a process of its own: a random Llama, prompts of 24 tokens, 16 sequences per step in two micro-steps. The
references are TRL's DistillationTrainer as it comes (beta = 1, its chunked kernel, a second model as the teacher) and, for
the LoRA cases, the same with the same LoRA. Heads are tied to the embeddings; vocabularies have 32,000 and 152,000 tokens.
The cases of one vocabulary are alive at once and take turns, one step each, so that a busy machine hits all; memory for all
five is needed.

What was done to give all the same work:
- The end token is one that no head has, so that every completion is of full length. Every prompt has one length too.
- One micro-batch size, no gradient checkpointing, rows in order, temperature 1, no dropout.
- GKDTrainer has lmbda = 1 (only its own samples) and beta = 1. Left as is: it samples for each micro-step where the others
  sample once per step, and it makes the logits of the prompt's positions too.
- SafeSteerTrainer looks at the refusals of one probe per sequence, the proportion of the paper's 32 and 32. The others do
  nothing of the kind; the column `probes` is that time, and it is part of the step's.

Time is that of an optimiser step without the first, a median; the parts are medians of their own. `rest` is what is neither
generation nor probes: forward, backward, loss and optimiser. Ratios are medians over the rounds of turns.

Extra memory is the peak of one step in bytes allocated, less the student's weights, gradients and optimiser states, which all
cases need alike; so it counts the teacher's weights. On a CPU the peak is the running sum of the allocations and frees that
torch's profiler reports for one more step, which is not timed. It falls in the second micro-step, which finds the gradients of
the first, so taking these off is exact. The peak of resident memory (Linux's VmHWM, before that step, all libraries and weights
in it) is a coarse check. In bfloat16, the default on a GPU, weights and states are bfloat16.
"""

from __future__ import annotations

import copy
import os
import random
import tempfile
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import track
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback

from benchmarks.common import CUDA, Rows, Table, options, publish

VOCABULARIES = (32_000, 152_000)
HIDDEN, PROMPT_TOKENS, MICRO_BATCH, MICRO_STEPS, ROLLOUTS = 384, 24, 8, 2, 8
SEQUENCES = MICRO_BATCH * MICRO_STEPS
SAFETY_TOKENS = 50
PARTS = ("step", "generation", "probes", "rest")
QUIET = {
    "KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore", "TRL_EXPERIMENTAL_SILENCE": "1",
    "TRANSFORMERS_VERBOSITY": "error", "DS_ACCELERATOR": "cuda" if CUDA else "cpu",
}  # fmt: skip


class Meter(TrainerCallback):
    """Steps when told to; keeps the seconds of every step and of the methods it watches, and the last step's peak of bytes."""

    def __init__(self, turns: Connection):
        self.times: dict[str, list[float]] = {part: [] for part in PARTS}
        self.resident = self.peak = 0
        self._turns = turns
        self._spent: defaultdict[str, float] = defaultdict(float)

    def watch(self, owner: Any, method: str, part: str) -> None:
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            result = original(*args, **kwargs)
            self._spent[part] += now() - start
            return result

        setattr(owner, method, timed)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._turns.recv()
        self._spent.clear()
        if state.global_step == state.max_steps - 1:
            self.resident = resident_peak()
            self._start_recording()
        self._start = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seconds = now() - self._start
        if state.global_step == state.max_steps:
            self.peak = self._recorded_peak()
        elif state.global_step > 1:
            rest = seconds - sum(self._spent.values())
            for part, spent in {**self._spent, "step": seconds, "rest": rest}.items():
                self.times[part].append(spent)
        self._turns.send(seconds)

    def _start_recording(self) -> None:
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
            self._profile.start()

    def _recorded_peak(self) -> int:
        if CUDA:
            return torch.cuda.max_memory_allocated() - self._before
        self._profile.stop()
        alive = peak = 0
        events = self._profile.profiler.kineto_results.events()
        for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
            alive += event.nbytes()
            peak = max(peak, alive)
        return peak


def now() -> float:
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def fresh_model(vocabulary: int, layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=6,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=vocabulary,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16 if CUDA else torch.float32)


def fresh_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words w0, w1, ..., and an end token whose id is the first that the model does not have."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = Tokenizer(WordLevel({f"w{index}": index for index in range(vocabulary)} | {"<end>": vocabulary}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="<end>", padding_side="left")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content + ' ' }}{% endfor %}"
    return tokenizer


def fresh_prompts(count: int, vocabulary: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(f"w{draw.randrange(1, vocabulary)}" for _ in range(PROMPT_TOKENS)) for _ in range(count)]


def said(user: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": user}]


def lora_config() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def distillation_arguments(common: dict[str, Any], completion: int) -> Any:
    from trl import DistillationConfig

    return DistillationConfig(**common, max_completion_length=completion, shuffle_dataset=False)


def rows_of(prompts: list[str]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(
        [{"prompt": said(p), "index": index, "rollout": r} for index, p in enumerate(prompts) for r in range(ROLLOUTS)]
    )


def trl_distillation(model: Any, teacher: Any, prompts: list[str], common: dict[str, Any], completion: int, **rest: Any) -> Any:
    from trl import DistillationTrainer

    args = distillation_arguments(common, completion)
    return DistillationTrainer(model=model, teacher_model=teacher, args=args, train_dataset=rows_of(prompts), **rest)


def trl_gkd(model: Any, teacher: Any, prompts: list[str], common: dict[str, Any], completion: int, **rest: Any) -> Any:
    from datasets import Dataset
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    replies = [{"messages": [*said(p), {"role": "assistant", "content": "w1"}]} for p in prompts for _ in range(ROLLOUTS)]
    args = GKDConfig(**common, max_new_tokens=completion, lmbda=1.0, beta=1.0, temperature=1.0, max_length=256)
    return GKDTrainer(model=model, teacher_model=teacher, args=args, train_dataset=Dataset.from_list(replies), **rest)


def safesteer(model: Any, teacher: Any, prompts: list[str], common: dict[str, Any], completion: int, **rest: Any) -> Any:
    from trainer.methods.safesteer.teacher import Teacher
    from trainer.methods.safesteer.trainer import SafeSteerTrainer

    vocabulary = model.config.vocab_size
    return SafeSteerTrainer(
        model=model,
        teacher_model=teacher,
        args=distillation_arguments(common, completion),
        train_dataset=rows_of(prompts),
        teacher=Teacher(torch.randn(HIDDEN), layer=model.config.num_hidden_layers // 2),
        safety_tokens=torch.randperm(vocabulary)[:SAFETY_TOKENS].tolist(),
        kind="slice",
        rollouts=ROLLOUTS,
        probes=fresh_prompts(SEQUENCES, vocabulary),
        refusal_tokens=[1, 2, 3],
        **rest,
    )


# Name, trainer, second model as the teacher, LoRA. The first of those with or without LoRA is the reference of the others.
CASES: list[tuple[str, Callable[..., Any], bool, bool]] = [
    ("TRL distillation", trl_distillation, True, False),
    ("TRL GKD", trl_gkd, True, False),
    ("SafeSteer, teacher=copy", safesteer, True, False),
    ("TRL distillation, LoRA", trl_distillation, True, True),
    ("SafeSteer, LoRA, teacher=shared", safesteer, False, True),
]


def measure(turns: Connection, case: int, vocabulary: int, layers: int, completion: int, steps: int) -> None:
    """One case, in this process; sends what it measured when its steps are done."""
    from trainer.methods.safesteer.trainer import SafeSteerTrainer

    _, build, copied, lora = CASES[case]
    model, tokenizer, meter = fresh_model(vocabulary, layers), fresh_tokenizer(vocabulary), Meter(turns)
    teacher = copy.deepcopy(model) if copied else None
    meter.watch(LlamaForCausalLM, "generate", "generation")
    meter.watch(SafeSteerTrainer, "_probe_refusals", "probes")
    with tempfile.TemporaryDirectory() as directory:
        common = dict(
            output_dir=directory, max_steps=steps + 2, per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=MICRO_STEPS, learning_rate=1e-5, max_grad_norm=1.0, gradient_checkpointing=False,
            bf16=CUDA, use_cpu=not CUDA, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
            dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        trainer = build(
            model,
            teacher,
            fresh_prompts((steps + 2) * SEQUENCES // ROLLOUTS, vocabulary),
            common,
            completion,
            processing_class=tokenizer,
            peft_config=lora_config() if lora else None,
            callbacks=[meter],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    trained = sum(p.nbytes for p in trainer.model.parameters() if p.requires_grad)  # as many bytes as the gradients have
    teachers = sum(p.nbytes for p in teacher.parameters()) if teacher else 0
    memory = {"extra": meter.peak - trained + teachers, "teacher": teachers, "resident": meter.resident}
    turns.send((meter.times, memory))


def measure_all(
    vocabulary: int, layers: int, completion: int, steps: int
) -> list[tuple[dict[str, list[float]], dict[str, int]]]:
    """Times and memory of every case, each in a process of its own."""
    context, ends = get_context("spawn"), []
    for case in range(len(CASES)):
        ours, theirs = context.Pipe()
        context.Process(target=measure, args=(theirs, case, vocabulary, layers, completion, steps), daemon=True).start()
        theirs.close()  # so that a process that dies is an EOFError here
        ends.append(ours)
    for step in track(range(steps + 2), f"vocabulary {vocabulary:,}, steps"):
        for end in ends:
            end.send(step)
            end.recv()
    return [end.recv() for end in ends]


def tables(vocabulary: int, found: list[tuple[dict[str, list[float]], dict[str, int]]]) -> tuple[Rows, Rows]:
    """The rows of the table of times and of that of memory."""
    in_time, in_memory = [], []
    for (name, _, _, lora), (times, memory) in zip(CASES, found, strict=True):
        reference = next(number for number, case in enumerate(CASES) if case[3] == lora)
        other_times, other_memory = found[reference]

        def ratio(part: str, own: Any = times, other: Any = other_times) -> str:
            return f"{median(a / b for a, b in zip(own[part], other[part], strict=True)):.2f}"

        seconds = {part: f"{median(times[part] or [0.0]):.2f}" for part in PARTS}
        in_time.append(
            (f"{vocabulary:,}", name, seconds["step"], ratio("step"), seconds["generation"], seconds["probes"],
             seconds["rest"], ratio("rest"))
        )  # fmt: skip
        extra, teacher, resident = (f"{memory[key] / 2**20:,.0f}" for key in ("extra", "teacher", "resident"))
        share = f"{memory['extra'] / other_memory['extra']:.2f}"
        in_memory.append((f"{vocabulary:,}", name, extra, share, teacher, resident))
    return in_time, in_memory


def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("--completion", type=int, default=32, help="tokens of every completion")
    found.add_argument("--layers", type=int, default=12)
    found.add_argument("--steps", type=int, default=3, help="timed steps; one before and one after are not")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    vocabularies = VOCABULARIES
    if given.smoke:
        given.layers, given.completion, given.steps, vocabularies = 2, 2, 1, (1_000,)
    os.environ |= QUIET

    backbone = sum(p.numel() for p in fresh_model(8, given.layers).parameters()) / 1e6
    title = (
        f"{'bfloat16' if CUDA else 'float32'}; backbone {backbone:.1f}M parameters, {SEQUENCES} sequences of {PROMPT_TOKENS} + "
        f"{given.completion} tokens per step, {given.steps} timed steps"
    )
    columns = (
        ("vocabulary", "case", "step, s", "ratio", "generation, s", "probes, s", "rest, s", "ratio of the rest"),
        ("vocabulary", "case", "extra memory, MiB", "ratio", "of it teacher, MiB", "peak resident, MiB"),
    )
    rows: tuple[Rows, Rows] = [], []
    for vocabulary in vocabularies:
        measured = measure_all(vocabulary, given.layers, given.completion, given.steps)
        for total, part in zip(rows, tables(vocabulary, measured), strict=True):
            total.extend(part)
    found = [Table(*parts) for parts in zip(("Time", "Memory"), columns, rows, strict=True)]
    publish(given, "safesteer_step", title, found)


if __name__ == "__main__":
    main()
