"""What DSA adds to a base: parameters, operations, and latency, for the prompt and for every token of the reply.

    python benchmarks/dsa_cost.py [--quick] [--repeats 3] [--out FILE]

Counted: parameters and operations a token (trainer/methods/dsa/cost.py; attention against all T tokens), for the measured base
and for one of 7B shape. The standalone guardrail is counted with its own embedding, the full-size one as a second backbone.

Measured: the base's own `generate`, greedy, on random weights and random prompts of 128 tokens. `prompt` is the time until the
first token's logits, `token` that of each of the 16 tokens after it. A guardrail judges the prompt and follows the reply token
by token with a cache of its own; one that judges only prompts costs nothing after them. Aligners run as in `AlignedModel`;
at strength 0 they are skipped. In a repeat every contender has its turn, so that a busy machine hits all. Times are medians,
ratios medians of the ratios within a repeat. On a GPU base and adapters are bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

from trainer.methods.dsa.base import BaseSizes
from trainer.methods.dsa.config import ALIGNERS, AdapterConfig
from trainer.methods.dsa.cost import Cost, aligner_cost, base_cost, guardrail_cost, ladder_block_parameters
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.dsa.guardrail import Guardrail, own_logits
from trainer.methods.dsa.inference import AlignedModel
from trainer.methods.dsa.standalone import Standalone, matched_width
from trainer.methods.dsa.transformer import Context
from trainer.stages.manifest import git_commit

CUDA = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if CUDA else ("cpu", torch.float32)
VOCABULARY, BATCHES, LENGTHS = 32_000, (1, 8, 32), (128, 512, 1024, 4096)
LST, HALF_LST = AdapterConfig("lst"), AdapterConfig("lst", every=2)
Judge = Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]  # (new tokens, hidden states, mask) -> logits of the last token
Contender = Callable[..., Any]  # called as `generate`
Rows = list[tuple[str, ...]]


def llama(hidden: int, intermediate: int, layers: int, heads: int, tied: bool = True) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, tie_word_embeddings=tied, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def small_base(quick: bool) -> Any:
    """The base that is measured."""
    sizes = (192, 512, 3, 6) if quick else (768, 2048, 10, 12)
    return llama(*sizes).to(DEVICE, DTYPE)


def now() -> float:
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


# ----------------------------------------------------------------------------------------------------------------- counted
def added(base: BaseSizes, length: int) -> dict[str, Cost]:
    """What each contender adds to the base, by name."""
    guardrail = guardrail_cost(LST, base, 1, length)
    aligners = {kind: aligner_cost(AdapterConfig(kind), base, length) for kind in ALIGNERS}
    width, depth = matched_width(LST, base.hidden, base.layers), base.layers
    standalone = Cost(
        depth * ladder_block_parameters(width) + base.vocabulary * width + 3 * width + 1,
        depth * (24 * width**2 + 4 * length * width),
    )
    second_backbone = Cost(
        base.layers * base.block_parameters + base.vocabulary * base.hidden + 2 * base.hidden + 1,
        base_cost(base, length).flops - 2 * base.hidden * base.vocabulary,
    )
    return {
        "1 guardrail, lst": guardrail,
        "1 guardrail, lst, every 2nd layer": guardrail_cost(HALF_LST, base, 1, length),
        "4 guardrails, lst": Cost(4 * guardrail.parameters, 4 * guardrail.flops),
        **{f"aligner, {kind}": cost for kind, cost in aligners.items()},
        "aligner, lst, strength 0": Cost(aligners["lst"].parameters, 0),
        "standalone guardrail": standalone,
        "full-size guardrail": second_backbone,
    }


def counted(model: Any, lengths: Sequence[int]) -> tuple[tuple[str, ...], Rows]:
    """Header and rows: parameters, and operations a token, in % of the base's."""
    sizes = BaseSizes.of(model)
    header = ("added", "parameters", "of the base", *(f"a token, T = {length:,}" for length in lengths))
    flops = [base_cost(sizes, length).flops for length in lengths]
    rows: Rows = [("(base)", f"{sizes.parameters / 1e6:,.1f}M", "", *(f"{f / 1e6:,.0f}M" for f in flops))]
    at = [added(sizes, length) for length in lengths]
    for name, cost in at[0].items():
        shares = (100 * costs[name].flops / of_base for costs, of_base in zip(at, flops, strict=True))
        share = 100 * cost.parameters / sizes.parameters
        rows.append((name, f"{cost.parameters / 1e6:,.2f}M", f"{share:.2f}%", *(f"{s:.2f}%" for s in shares)))
    return header, rows


# ---------------------------------------------------------------------------------------------------------------- measured
class Clock(LogitsProcessor):
    """Notes when `generate` has the logits of the first token and of the last."""

    def __init__(self, tokens: int):
        self.tokens, self.seen, self.times = tokens, 0, [now()]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.seen += 1
        if self.seen in (1, self.tokens):
            self.times.append(now())
        return scores


def by_guardrail(guardrail: Guardrail) -> Judge:
    cache = guardrail.adapter.new_cache()
    return lambda ids, hidden, mask: own_logits(guardrail.head, guardrail.adapter(hidden, mask, cache)[:, -1:])


def by_standalone(standalone: Standalone) -> Judge:
    cache = DynamicCache()

    def judge(ids: Tensor, hidden: Sequence[Tensor], mask: Tensor) -> Tensor:
        x = standalone.embedding(ids)
        context = Context.of(mask, ids.shape[1], standalone.width, True, x.dtype, cache)
        for block in standalone.blocks:
            x = block(x, context)
        return own_logits(standalone.head, standalone.norm(x[:, -1:]))

    return judge


def by_backbone(backbone: Any, head: nn.Linear) -> Judge:
    cache = DynamicCache(config=backbone.config)
    return lambda ids, hidden, mask: head(
        backbone(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
    )


@contextmanager
def followed(base: Any, judges: Sequence[Judge]) -> Iterator[None]:
    """Every forward pass of the base is read by the judges; there is no padding."""
    read = 0

    def before(_: Any, args: Any, options: dict[str, Any]) -> Any:
        return args, {**options, "output_hidden_states": True}

    def after(_: Any, args: Any, options: dict[str, Any], output: Any) -> None:
        nonlocal read
        ids = options["input_ids"]
        read += ids.shape[1]
        for judge in judges:
            judge(ids, output.hidden_states, ids.new_ones(len(ids), read))

    hooks = [base.register_forward_pre_hook(before, with_kwargs=True), base.register_forward_hook(after, with_kwargs=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def contenders(base: Any) -> dict[str, Contender]:
    """By the names of `added`, and the base first."""

    def ready(module: Any) -> Any:
        return module.to(DEVICE, DTYPE).eval()

    def guarded(*fresh: Callable[[], Judge]) -> Contender:
        def generate(**options: Any) -> None:
            with followed(base, [judge() for judge in fresh]):
                base.generate(**options)

        return generate

    guardrails = [partial(by_guardrail, ready(make_guardrail(LST, base, ["response"]))) for _ in range(4)]
    half = ready(make_guardrail(HALF_LST, base, ["response"]))
    aligners = {kind: ready(make_aligner(AdapterConfig(kind), base)) for kind in ALIGNERS}
    sizes = BaseSizes.of(base)
    standalone = ready(Standalone(LST, sizes.hidden, sizes.layers, VOCABULARY, True, ["response"]))
    backbone, head = copy.deepcopy(base.base_model), ready(nn.Linear(sizes.hidden, 1))
    return {
        "(base)": base.generate,
        "1 guardrail, lst": guarded(guardrails[0]),
        "1 guardrail, lst, every 2nd layer": guarded(partial(by_guardrail, half)),
        "4 guardrails, lst": guarded(*guardrails),
        **{f"aligner, {kind}": AlignedModel(base, aligner).generate for kind, aligner in aligners.items()},
        "aligner, lst, strength 0": AlignedModel(base, aligners["lst"], strength=0.0).generate,
        "standalone guardrail": guarded(partial(by_standalone, standalone)),
        "full-size guardrail": guarded(partial(by_backbone, backbone, head)),
    }


def seconds(generate: Contender, batch: int, prompt: int, decoded: int) -> tuple[float, float]:
    """Until the first token's logits, and for each of the `decoded` tokens after it."""
    ids = torch.randint(VOCABULARY, (batch, prompt), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    clock = Clock(decoded + 1)
    generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=decoded + 1,
        do_sample=False,
        logits_processor=LogitsProcessorList([clock]),
    )
    start, first, last = clock.times
    return first - start, (last - first) / decoded


def measured(base: Any, batches: Sequence[int], prompt: int, decoded: int, repeats: int) -> Rows:
    found, rows = contenders(base), []
    for batch in batches:
        for generate in found.values():  # the warm-up
            seconds(generate, batch, prompt, 1)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        for _ in track(range(repeats), f"batch {batch}, repeats"):
            for name, generate in found.items():
                times[name].append(seconds(generate, batch, prompt, decoded))
        for name in found:
            cells = []
            for own, of_base in zip(zip(*times[name], strict=True), zip(*times["(base)"], strict=True), strict=True):
                ratio = median(a / b for a, b in zip(own, of_base, strict=True))
                cells += [f"{1e3 * median(own):,.1f}", f"{ratio:.2f}"]
            rows.append((str(batch), name, *cells))
    return rows


# ----------------------------------------------------------------------------------------------------------------- printed
def about() -> str:
    """Date, commit, versions and machine."""
    machine = torch.cuda.get_device_name() if CUDA else f"{platform.machine()} CPU"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    kind = str(DTYPE).removeprefix("torch.")
    return f"{date.today()}, commit {git_commit()}, {libraries}; {machine}, {torch.get_num_threads()} thread(s), {kind}"


def publish(title: str, tables: Sequence[tuple[str, tuple[str, ...], Rows]], out: Path | None) -> None:
    """Prints tables (caption, header, rows), and writes them as markdown."""
    console, lines = Console(width=132), [title]
    console.print(title)
    for caption, header, rows in tables:
        table = Table(*header, title=caption)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        lines += ["", caption, "", *("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows))]
    if out:
        out.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small base, batches of 1 and 2, prompts of 32 tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    batches, prompt, decoded = ((1, 2), 32, 4) if arguments.quick else (BATCHES, 128, 16)
    base = small_base(arguments.quick)
    with torch.device("meta"):
        large = llama(4096, 11008, 32, 32, tied=False)
    latency = ("batch", "case", "prompt, ms", "ratio", "token, ms", "ratio")
    publish(
        f"{about()}; prompts of {prompt} tokens, {decoded} tokens decoded, {arguments.repeats} repeats",
        [
            ("Counted: parameters and operations a token, 7B shape", *counted(large, LENGTHS)),
            ("Counted: parameters and operations a token, the measured base", *counted(base, [prompt])),
            ("Measured", latency, measured(base, batches, prompt, decoded, arguments.repeats)),
        ],
        arguments.out,
    )


if __name__ == "__main__":
    main()
