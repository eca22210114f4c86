r"""Guardrails on the features of a real pretrained encoder, on ToxiGen and SummEdits.

    OMP_NUM_THREADS=1 python -m benchmarks.dsa_real_guardrails --encoder ENCODER --toxigen FILE --summedits FILE... \
        [--json FILE]
    python -m benchmarks.dsa_real_guardrails --smoke

With --smoke the encoder has fresh weights, and the rows are the sandbox's.

The encoder is frozen; what it makes of every row is computed once and kept in memory, in half precision. Rows have at most 256
tokens; of a document with a summary the end of the document is cut. All guardrails are read at the last token.

Each kind of adapter is trained with few labels and with many, and so is the standalone guardrail that has the parameters of the
lst one, its embedding not counted, and starts from nothing but the same tokens. A quarter of the labels is validation: it
chooses, for each training, one of two learning rates and the step to stop at. Test rows are the same for all and choose
nothing. A seed draws the labels, the initial weights and the batches. ToxiGen is split by text, SummEdits by document: it has
79 documents, each with many summaries, so that its intervals, which take rows to be independent, are too narrow.

Area under the ROC curve on test: the mean over seeds, the mean of the ends of the seeds' 95% bootstrap intervals over rows, and
the range over seeds.
"""

from __future__ import annotations

import copy
import random
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from benchmarks.common import Rows, Table, options, publish
from trainer.config.shipped import BASE_DIR
from trainer.data.formats.summedits import from_summedits
from trainer.data.formats.toxigen import from_toxigen
from trainer.data.labelled import Labelled, read_labelled, split
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.base import read
from trainer.methods.dsa.factory import make_guardrail
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.measure import auc, roc
from trainer.methods.dsa.standalone import Standalone
from trainer.sandbox.guardrail import sandbox_labelled

TOKENS, BATCH, RATES, CHECKS, RESAMPLES = 256, 16, (1e-3, 5e-3), 5, 1000
ADAPTERS = {
    "plr, linear": AdapterConfig("plr"),
    "plr, MLP": AdapterConfig("plr", probe_width=128),
    "rtb": AdapterConfig("rtb"),
    "lst": AdapterConfig("lst"),
    "lst_plus": AdapterConfig("lst_plus"),
}


class Example(NamedTuple):
    """ids (T,); hidden (T, L+1, d), of the encoder; label 1 = to be flagged."""

    ids: Tensor
    hidden: Tensor
    label: float


def examples_of(rows: Sequence[Labelled], encoder: Any, tokenizer: Any, what: str) -> dict[Labelled, Example]:
    by_length = sorted(rows, key=lambda row: len(row.prompt) + len(row.response or ""))
    found = {}
    for start in track(range(0, len(rows), BATCH), f"features, {what}"):
        some = by_length[start : start + BATCH]
        texts = [row.prompt if row.response is None else (row.prompt, row.response) for row in some]
        paired = some[0].response is not None
        encoded = tokenizer(
            texts, truncation="only_first" if paired else True, max_length=TOKENS, padding=True, padding_side="right",
            return_tensors="pt",
        )  # fmt: skip
        hidden = torch.stack(read(encoder, **encoded).hidden_states, 2).half()
        for number, (row, length) in enumerate(zip(some, encoded["attention_mask"].sum(1).tolist(), strict=True)):
            label = row.prompt_label if row.response is None else row.response_label
            found[row] = Example(encoded["input_ids"][number, :length], hidden[number, :length].clone(), float(label or 0))
    return found


def logits(guardrail: Guardrail | Standalone, examples: Sequence[Example]) -> Tensor:
    """(B,), read at the last token."""
    lengths = torch.tensor([len(example.ids) for example in examples])
    mask, last = (torch.arange(int(lengths.max())) < lengths[:, None]).long(), lengths - 1
    if isinstance(guardrail, Standalone):
        ids = pad_sequence([example.ids for example in examples], batch_first=True)
        return guardrail(ids, mask, last)[:, 0]
    if guardrail.adapter.token_wise:  # then it needs that token only
        states = torch.stack([example.hidden[-1:] for example in examples])
        mask, last = mask[:, :1], torch.zeros_like(last)
    else:
        states = pad_sequence([example.hidden for example in examples], batch_first=True)
    return guardrail(states.float().unbind(2), mask, last)[:, 0]


@torch.no_grad()
def scores(guardrail: Guardrail | Standalone, examples: Sequence[Example]) -> tuple[list[float], list[float]]:
    """Labels and scores."""
    parts = [examples[start : start + 4 * BATCH] for start in range(0, len(examples), 4 * BATCH)]
    given = torch.cat([logits(guardrail, part) for part in parts])
    return [example.label for example in examples], given.tolist()


def train(make: Callable[[], Any], training: list[Example], validation: list[Example], seed: int, steps: int) -> Any:
    """The guardrail where it was best on validation, of some points in a training at each rate."""
    best, chosen = -1.0, None
    for rate in RATES:
        torch.manual_seed(seed)
        draw, guardrail = random.Random(seed), make()
        optimizer = torch.optim.AdamW(guardrail.parameters(), lr=rate)
        for step in range(1, steps + 1):
            batch = draw.sample(training, BATCH)
            labels = torch.tensor([example.label for example in batch])
            binary_cross_entropy_with_logits(logits(guardrail, batch), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            if step % (steps // CHECKS) == 0:
                false, true = roc(*scores(guardrail, validation))
                if (area := float(np.trapezoid(true, false))) > best:
                    best, chosen = area, copy.deepcopy(guardrail)
    return chosen


def compared(task: str, rows: list[Labelled], sizes: dict[str, int], encoder: Any, tokenizer: Any, seeds: int) -> Rows:
    test_rows, pool = split(rows, [sizes["test"], sizes["pool"]], seed=0)
    examples = examples_of(test_rows + pool, encoder, tokenizer, task)
    test = sorted((examples[row] for row in test_rows), key=lambda example: len(example.ids))
    config = encoder.config
    sizes_of_base = (config.hidden_size, config.num_hidden_layers, config.vocab_size)
    makers: dict[str, Callable[[], Any]] = {
        **{name: partial(make_guardrail, adapter, encoder, ["unsafe"]) for name, adapter in ADAPTERS.items()},
        "standalone": partial(Standalone, ADAPTERS["lst"], *sizes_of_base, False, ["unsafe"]),
    }
    table: Rows = []
    for labels in (sizes["few"], sizes["many"]):
        for name, make in makers.items():
            found = []
            for seed in track(range(seeds), f"{task}, {labels} labels, {name}"):
                parts = split(pool, [labels - labels // 4, labels // 4], seed)
                training, validation = ([examples[row] for row in part] for part in parts)
                guardrail = train(make, training, validation, seed, sizes["steps"])
                found.append(auc(*scores(guardrail, test), RESAMPLES, seed))
            values = [metric["value"] for metric in found]
            low, high = (mean(metric["ci95"][end] for metric in found) for end in (0, 1))
            embedding = [p.numel() for n, p in make().named_parameters() if "embedding" in n]
            parameters = sum(p.numel() for p in make().parameters()) - sum(embedding)
            table.append(
                (task, f"{labels:,}", name, f"{parameters:,}", f"{mean(values):.3f}", f"{low:.3f} to {high:.3f}",
                 f"{min(values):.3f} to {max(values):.3f}")
            )  # fmt: skip
    return table


def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("--encoder", help="its directory, with the tokenizer, or its name on the hub")
    found.add_argument("--toxigen", type=Path, help="the annotated rows, jsonl")
    found.add_argument("--summedits", type=Path, nargs="+", help="one file per domain")
    found.add_argument("--seeds", type=int, default=3)
    return found


def stand_in_encoder() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertModel(BertConfig(vocab_size=len(AutoTokenizer.from_pretrained(BASE_DIR)), **sizes))


def stand_in_rows() -> tuple[list[Labelled], list[Labelled]]:
    """Texts alone, and texts with a second one, as ToxiGen and SummEdits have them."""
    rows = sandbox_labelled(300, 0)
    return [Labelled(row.prompt, prompt_label=row.prompt_label) for row in rows], rows


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    if not given.smoke and not (given.encoder and given.toxigen and given.summedits):
        parser().error("--encoder, --toxigen and --summedits are needed (or --smoke)")
    if given.smoke:
        given.seeds = 1
        sizes = {task: {"test": 40, "pool": 80, "few": 40, "many": 60, "steps": 5} for task in ("ToxiGen", "SummEdits")}
        encoder, source = stand_in_encoder(), str(BASE_DIR)
        toxigen, summedits = stand_in_rows()
    else:
        sizes = {
            "ToxiGen": {"test": 1200, "pool": 3200, "few": 200, "many": 3000, "steps": 300},
            "SummEdits": {"test": 700, "pool": 1400, "few": 200, "many": 1200, "steps": 150},
        }
        encoder, source = AutoModel.from_pretrained(given.encoder), given.encoder
        toxigen = read_labelled(str(given.toxigen), from_toxigen)
        summedits = [row for file in given.summedits for row in read_labelled(str(file), from_summedits)]
    encoder.eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(source)
    rows: Rows = []
    for task, labelled in {"ToxiGen": toxigen, "SummEdits": summedits}.items():
        rows += compared(task, labelled, sizes[task], encoder, tokenizer, given.seeds)
    header = ("task", "labels", "guardrail", "parameters", "test AUC", "95% interval, rows", "seeds")
    steps = " and ".join(f"{of_one['steps']} steps on {task}" for task, of_one in sizes.items())
    title = f"encoder {Path(source).name}, {given.seeds} seed(s), {steps}, {BATCH} rows per step"
    publish(given, "dsa_real_guardrails", title, [Table("Guardrails on real features", header, rows)])


if __name__ == "__main__":
    main()
