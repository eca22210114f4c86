"""What DSA adds to a base: parameters, operations, and latency, for the prompt and for every token of the reply.

    OMP_NUM_THREADS=1 python -m benchmarks.dsa_cost [--repeats 5] [--smoke] [--json FILE]

Counted: parameters and operations per token (trainer/methods/dsa/cost.py; attention against all T tokens), for a base of 7B
shape and for the measured one. The standalone guardrail is counted with its own embedding.

Measured: the base's own `generate`, greedy, on random weights and random prompts of 128 tokens. `prompt` is the time until the
first token's logits, `token` that of each of the 16 tokens after it. Guardrails judge the prompt and every token after it, with
caches of their own; one that judges only prompts costs nothing after them. Aligners run as in `AlignedModel`, at strength 1.
Contenders take turns, and before each the base alone has one. Times are medians, ratios medians of the ratios to the base's
turn just before, so that a busy machine hits both. With one CPU thread (OMP_NUM_THREADS=1) time is CPU time of the process,
else it is wall time. On a GPU base and adapters are bfloat16.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

from benchmarks.common import CUDA, Row, Rows, Table, options, publish
from trainer.methods.dsa.adapter_config import ALIGNERS, AdapterConfig
from trainer.methods.dsa.base import BaseSizes
from trainer.methods.dsa.cost import Cost, aligner_cost, base_cost, guardrail_cost
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.dsa.guardrail import Guardrail, own_logits
from trainer.methods.dsa.inference import AlignedModel
from trainer.methods.dsa.standalone import Standalone
from trainer.methods.dsa.transformer import Context

DEVICE, DTYPE = ("cuda", torch.bfloat16) if CUDA else ("cpu", torch.float32)
VOCABULARY, BATCHES, LENGTHS = 32_000, (1, 8, 32), (128, 512, 1024, 4096)
LST = AdapterConfig("lst")
Judge = Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]  # (new tokens, hidden states, mask) -> logits of the last token
Contender = Callable[..., Any]  # called as `generate`
Times = tuple[float, float]  # seconds until the first token's logits, and for each token after it


def llama(hidden: int, intermediate: int, layers: int, heads: int, tied: bool = True) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, tie_word_embeddings=tied, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def small_base(smoke: bool) -> Any:
    """The base that is measured."""
    sizes = (96, 192, 2, 6) if smoke else (768, 2048, 10, 12)
    return llama(*sizes).to(DEVICE, DTYPE)


def standalone_for(sizes: BaseSizes) -> Standalone:
    """A standalone guardrail of the size of an lst one."""
    return Standalone(LST, sizes.hidden, sizes.layers, VOCABULARY, True, ["response"])


def now() -> float:
    """Seconds; on one CPU thread those that the process has had the CPU, which other work on the machine disturbs less."""
    if CUDA:
        torch.cuda.synchronize()
    return time.process_time() if not CUDA and torch.get_num_threads() == 1 else time.perf_counter()


# ----------------------------------------------------------------------------------------------------------------- counted
def added(base: BaseSizes, length: int) -> dict[str, Cost]:
    """What each contender adds to the base, by name."""
    guardrail = guardrail_cost(LST, base, 1, length)
    with torch.device("meta"):
        standalone = standalone_for(base)
    width, depth = standalone.width, len(standalone.blocks)
    return {
        "1 guardrail, lst": guardrail,
        "4 guardrails, lst": Cost(4 * guardrail.parameters, 4 * guardrail.flops),
        **{f"aligner, {kind}": aligner_cost(AdapterConfig(kind), base, length) for kind in ALIGNERS},
        "standalone guardrail": Cost(
            sum(p.numel() for p in standalone.parameters()), depth * (24 * width**2 + 4 * length * width)
        ),
    }


def counted(model: Any, lengths: Sequence[int]) -> tuple[Row, Rows]:
    """Header and rows: parameters, and operations per token, in % of the base's."""
    sizes = BaseSizes.of(model)
    header = ("added", "parameters", "of the base", *(f"per token, T = {length:,}" for length in lengths))
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


def guarded(base: Any, *fresh: Callable[[], Judge]) -> Contender:
    """The base's `generate`, with new judges that read every forward pass; there is no padding."""

    def generate(**options: Any) -> None:
        judges, read = [make() for make in fresh], 0

        def before(_: Any, args: Any, options: dict[str, Any]) -> Any:
            return args, {**options, "output_hidden_states": True}

        def after(_: Any, args: Any, options: dict[str, Any], output: Any) -> None:
            nonlocal read
            ids = options["input_ids"]
            read += ids.shape[1]
            for judge in judges:
                judge(ids, output.hidden_states, ids.new_ones(len(ids), read))

        hooks = [base.register_forward_pre_hook(before, with_kwargs=True), base.register_forward_hook(after, with_kwargs=True)]
        base.generate(**options)
        for hook in hooks:
            hook.remove()

    return generate


def contenders(base: Any) -> dict[str, Contender]:
    """By the names of `added`."""

    def ready(module: Any) -> Any:
        return module.to(DEVICE, DTYPE).eval()

    guardrails = [partial(by_guardrail, ready(make_guardrail(LST, base, ["response"]))) for _ in range(4)]
    aligners = {kind: ready(make_aligner(AdapterConfig(kind), base)) for kind in ALIGNERS}
    return {
        "1 guardrail, lst": guarded(base, guardrails[0]),
        "4 guardrails, lst": guarded(base, *guardrails),
        **{f"aligner, {kind}": AlignedModel(base, aligner).generate for kind, aligner in aligners.items()},
        "standalone guardrail": guarded(base, partial(by_standalone, ready(standalone_for(BaseSizes.of(base))))),
    }


def seconds(generate: Contender, batch: int, prompt: int, decoded: int) -> Times:
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
        for generate in (base.generate, *found.values()):  # the warm-up
            seconds(generate, batch, prompt, 1)
        pairs: dict[str, list[tuple[Times, Times]]] = {name: [] for name in found}
        for _ in track(range(repeats), f"batch {batch}, repeats"):
            for name, generate in found.items():
                of_base = seconds(base.generate, batch, prompt, decoded)
                pairs[name].append((of_base, seconds(generate, batch, prompt, decoded)))
        alone = [of_base for some in pairs.values() for of_base, _ in some]
        rows.append((str(batch), "(base)", *cells([(times, times) for times in alone])))
        rows += [(str(batch), name, *cells(some)) for name, some in pairs.items()]
    return rows


def cells(pairs: Sequence[tuple[Times, Times]]) -> list[str]:
    """Milliseconds and the ratio to the base, for the prompt and for a token; in a pair the base comes first."""
    found = []
    for part in range(2):
        own, ratio = median(b[part] for _, b in pairs), median(b[part] / a[part] for a, b in pairs)
        found += [f"{1e3 * own:,.1f}", f"{ratio:.2f}"]
    return found


# ----------------------------------------------------------------------------------------------------------------- printed
def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("--repeats", type=int, default=5)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    logging.set_verbosity_error()
    batches, prompt, decoded, repeats = ((1,), 8, 2, 1) if given.smoke else (BATCHES, 128, 16, given.repeats)
    base = small_base(given.smoke)
    with torch.device("meta"):
        large = llama(4096, 11008, 32, 32, tied=False)
    latency = ("batch", "case", "prompt, ms", "ratio", "token, ms", "ratio")
    publish(
        given,
        "dsa_cost",
        f"{DTYPE}, prompts of {prompt} tokens, {decoded} tokens decoded, {repeats} repeats",
        [
            Table("Counted: parameters and operations per token, 7B shape", *counted(large, LENGTHS)),
            Table("Counted: parameters and operations per token, the measured base", *counted(base, [prompt])),
            Table("Measured", latency, measured(base, batches, prompt, decoded, repeats)),
        ],
    )


if __name__ == "__main__":
    main()
