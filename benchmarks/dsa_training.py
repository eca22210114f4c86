"""Training of DSA's aligners and guardrails against LoRA on the same base, and a guardrail with its features cached.

    OMP_NUM_THREADS=1 python -m benchmarks.dsa_training [--repeats 3] [--smoke] [--json FILE]

A random Llama; random sequences of 128 tokens, 8 per step; AdamW. Everything is timed in turns, so that a busy machine hits
all; times are medians, ratios medians of the ratios within a repeat. With one CPU thread time is CPU time of the process.

Steps. Alignment is DPO on 4 pairs, half of each sequence being the completion: an aligner takes its reference from the base's
forward pass that it reads anyway, LoRA from a second one with its adapter off. A guardrail is trained with binary
cross-entropy at the last token; against it, LoRA in the backbone under a linear head. LoRA has rank 16 in all linear layers,
of all blocks or of the last two. Steps of an adapter have no backward pass through the base.

Cached features. The hidden states that a guardrail reads are computed once and written to files, by the classes that stage
`features` uses: for lst those of all tokens, for rtb only those of the token that is judged. Without the cache an epoch takes
u, with it c, and the features once f, reading and writing included; the cache pays from f / (u - c) epochs on. The files are
read back from the system's page cache here, which is faster than a disk.
"""

from __future__ import annotations

import copy
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid

from benchmarks.common import Row, Rows, Table, options, publish
from benchmarks.dsa_cost import DEVICE, VOCABULARY, now, small_base
from trainer.methods.dsa.adapter_config import ALIGNERS, AdapterConfig
from trainer.methods.dsa.base import head_logits, read
from trainer.methods.dsa.batches import Collator, labels_of
from trainer.methods.dsa.examples import Example
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.dsa.features import Features, FeatureWriter, Wanted

SEQUENCES, BETA, BATCHES = 8, 0.1, 4
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Step = Callable[[], None]


def trained(module: Any) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def stepping(module: Any, loss: Callable[[], Tensor]) -> tuple[int, Step]:
    """How many parameters a training step trains, and the step."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return trained(module), step


def with_lora(model: Any, last_blocks: int | None) -> Any:
    """A copy of the model with LoRA."""
    layers = None if last_blocks is None else list(range(model.config.num_hidden_layers))[-last_blocks:]
    return get_peft_model(
        copy.deepcopy(model), LoraConfig(r=16, lora_alpha=32, target_modules=PROJECTIONS, layers_to_transform=layers)
    )


def dpo(policy: Tensor, reference: Tensor, ids: Tensor) -> Tensor:
    """Logits (B, C + 1, V), the last C + 1 of each sequence; the first half of the rows is chosen, the second rejected."""

    def log_probability(logits: Tensor) -> Tensor:
        tokens = logits.shape[1] - 1
        return -cross_entropy(logits[:, :-1].float().transpose(1, 2), ids[:, -tokens:], reduction="none").sum(1)

    chosen, rejected = (log_probability(policy) - log_probability(reference)).chunk(2)
    return -logsigmoid(BETA * (chosen - rejected)).mean()


def alignment_steps(base: Any, ids: Tensor) -> dict[str, tuple[int, Step]]:
    mask, kept = torch.ones_like(ids), ids.shape[1] // 2 + 1

    def by_aligner(kind: str) -> tuple[int, Step]:
        aligner = make_aligner(AdapterConfig(kind), base).to(DEVICE).train()

        def loss() -> Tensor:
            output = read(base, ids, mask, logits_to_keep=kept)
            policy = head_logits(base, aligner.states(output.hidden_states, mask)[:, -kept:])
            return dpo(policy, output.logits, ids)

        return stepping(aligner, loss)

    def by_lora(last_blocks: int | None) -> tuple[int, Step]:
        model = with_lora(base, last_blocks).train()

        def loss() -> Tensor:
            with torch.no_grad(), model.disable_adapter():
                reference = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
            return dpo(model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits, reference, ids)

        return stepping(model, loss)

    aligners = {f"aligner, {kind}": by_aligner(kind) for kind in ALIGNERS}
    return {"LoRA, all blocks": by_lora(None), "LoRA, last 2 blocks": by_lora(2), **aligners}


def guardrail_steps(base: Any, ids: Tensor, labels: Tensor) -> dict[str, tuple[int, Step]]:
    mask, last = torch.ones_like(ids), torch.full((len(ids),), ids.shape[1] - 1, device=DEVICE)

    def by_guardrail(kind: str) -> tuple[int, Step]:
        guardrail = make_guardrail(AdapterConfig(kind), base, ["prompt"]).to(DEVICE).train()

        def loss() -> Tensor:
            hidden = read(base, ids, mask, logits_to_keep=1).hidden_states
            return binary_cross_entropy_with_logits(guardrail(hidden, mask, last), labels)

        return stepping(guardrail, loss)

    def by_lora(last_blocks: int | None) -> tuple[int, Step]:
        backbone = with_lora(base, last_blocks).get_base_model().base_model  # with LoRA's layers in it
        module = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(base.config.hidden_size, 1, device=DEVICE)}).train()

        def loss() -> Tensor:
            state = module["backbone"](input_ids=ids, use_cache=False).last_hidden_state[:, -1]
            return binary_cross_entropy_with_logits(module["head"](state.float()), labels)

        return stepping(module, loss)

    guardrails = {f"guardrail, {kind}": by_guardrail(kind) for kind in ("plr", "rtb", "lst")}
    return {"LoRA, all blocks": by_lora(None), "LoRA, last 2 blocks": by_lora(2), **guardrails}


def seconds(call: Callable[[], Any]) -> float:
    start = now()
    call()
    return now() - start


def in_turns(calls: dict[str, Step], repeats: int, what: str) -> dict[str, list[float]]:
    """Seconds of each call in each repeat, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in track(range(-1, repeats), what):
        for name, call in calls.items():
            spent = seconds(call)
            if repeat >= 0:
                times[name].append(spent)
    return times


def compared(task: str, steps: dict[str, tuple[int, Step]], tokens: int, repeats: int) -> Rows:
    times = in_turns({name: step for name, (_, step) in steps.items()}, repeats, task)
    of_lora = times["LoRA, all blocks"]
    rows: Rows = []
    for name, (parameters, _) in steps.items():
        faster = median(a / b for a, b in zip(of_lora, times[name], strict=True))
        spent = median(times[name])
        row = (task, name, f"{parameters / 1e6:.2f}M", f"{spent:.3f}", f"{tokens / spent:,.0f}", f"{faster:.2f}")
        rows.append(row)
    return rows


def cached(base: Any, kind: str, examples: Sequence[Example], repeats: int) -> Row:
    """The row of one kind of guardrail."""
    config, layers = AdapterConfig(kind), base.config.num_hidden_layers
    guardrail = make_guardrail(config, base, ["prompt"]).to(DEVICE).train()
    optimizer = torch.optim.AdamW(guardrail.parameters(), lr=1e-4)
    wanted = Wanted.by([config], layers, guardrail.labels)

    def batches(features: Features | None) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Row numbers, and a guardrail's inputs, with the base's hidden states."""
        collate = Collator(examples, wanted.names, labels_of(examples, wanted.names), 0, features)
        for start in range(0, len(examples), SEQUENCES):
            rows = list(range(start, start + SEQUENCES))
            inputs = collate([{"row": row} for row in rows])
            on_device = {name: value.to(DEVICE) for name, value in inputs.items() if name != "hidden"}
            if features is None:
                hidden = read(base, on_device["input_ids"], on_device["attention_mask"], logits_to_keep=1).hidden_states
            else:
                hidden = [states.to(DEVICE) for states in inputs["hidden"]]
            yield rows, {**on_device, "hidden": hidden}

    def epoch(features: Features | None = None) -> None:
        for _, batch in batches(features):
            logits = guardrail(batch["hidden"], batch["attention_mask"], batch["positions"])
            binary_cross_entropy_with_logits(logits, batch["labels"]).backward()
            optimizer.step()
            optimizer.zero_grad()

    with tempfile.TemporaryDirectory() as directory:

        def write() -> None:
            writer = FeatureWriter(Path(directory), 0, examples, wanted)
            for rows, batch in batches(None):
                for place, row in enumerate(rows):
                    writer.add(row, [states[place] for states in batch["hidden"]])
            writer.flush()

        def cached_epoch() -> None:
            epoch(Features(Path(directory), examples, wanted, config, layers))

        times = in_turns({"f": write, "u": epoch, "c": cached_epoch}, repeats, f"cache, {kind}")
    f, u, c = (median(times[name]) for name in "fuc")
    mebibytes = 1000 / len(examples) * wanted.size(examples, base.config.hidden_size, base.dtype.itemsize) / 2**20
    pays = f"{f / (u - c):.2f}" if u > c else "never"
    return f"guardrail, {kind}", f"{u:.2f}", f"{c:.3f}", f"{u / c:.1f}", f"{f:.2f}", pays, f"{mebibytes:,.0f}"


def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("--repeats", type=int, default=3)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    length, repeats = (8, 1) if given.smoke else (128, given.repeats)
    base = small_base(given.smoke).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    rows_of_ids = torch.randint(VOCABULARY, (BATCHES * SEQUENCES, length), generator=generator)
    examples = [Example(ids, (length - 1, length - 1), (row % 2, None)) for row, ids in enumerate(rows_of_ids.tolist())]
    ids = rows_of_ids[:SEQUENCES].to(DEVICE)
    labels = labels_of(examples[:SEQUENCES], ["prompt"]).to(DEVICE)
    rows = compared("alignment", alignment_steps(base, ids), ids.numel(), repeats)
    rows += compared("guardrail", guardrail_steps(base, ids, labels), ids.numel(), repeats)
    cache = [cached(base, kind, examples, repeats) for kind in ("rtb", "lst")]
    publish(
        given,
        "dsa_training",
        f"base of {base.num_parameters() / 1e6:.0f}M parameters, {SEQUENCES} sequences of {length} tokens per step, "
        f"{repeats} repeats",
        [
            Table("Steps", ("task", "trained", "parameters", "step, s", "tokens per second", "times as fast as LoRA"), rows),
            Table(
                f"Cached features, epochs of {BATCHES} batches",
                ("trained", "epoch (u), s", "cached (c), s", "u / c", "features (f), s", "pays from epochs", "MiB, 1,000 rows"),
                cache,
            ),
        ],
    )


if __name__ == "__main__":
    main()
