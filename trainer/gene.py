"""A safety gene in a model that was fine-tuned elsewhere.

  show    what a gene is, and what it fits
  apply   recalibrate it in a model by a few examples, and write the model that results, or an adapter beside it

Examples are rows with prompt and completion, messages, or the other shapes of data=chat (jsonl, json, csv, parquet).
Refusals are those of harmful prompts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tqdm import tqdm

from trainer.config.sections import ModelSection
from trainer.data.formats.chat import read_examples
from trainer.data.preferences import Preference
from trainer.ending import explain
from trainer.errors import ConfigError, KeelError
from trainer.methods.safegene.batches import encode, padded
from trainer.methods.safegene.contenders import expressing
from trainer.methods.safegene.gene import Gene, save_expressed
from trainer.methods.safegene.losses import deviation
from trainer.methods.safegene.recalibrating import TRAINED, Scalars, recalibration_loss
from trainer.models.device import device_of_rank
from trainer.models.load import load_model, load_tokenizer
from trainer.models.save import save_model
from trainer.models.weights import Weights, other_weights
from trainer.terminal import prepare

_BATCH = 16  # pairs of a refusal and an example in one forward pass


def show(gene: Gene, console: Console) -> None:
    trained = sum(one.a.numel() + one.b.numel() for one in gene.additions.values())
    console.print(f"{trained:,} weights in {len(gene.additions)} layers of {gene.architecture['model_type']}")
    console.print(
        f"fits: {', '.join(f'{name} {value}' for name, value in gene.architecture.items())}; tokenizer {gene.tokenizer}"
    )
    console.print(f"kept by {gene.chosen_by}: layers {', '.join(map(str, gene.layers))}")
    console.print("scores: " + ", ".join(f"{layer}: {score:.3f}" for layer, score in enumerate(gene.scores)))
    console.print(f"distilled from the aligned model {gene.base_fingerprint}; {gene.provenance}")


def recalibrated(
    gene: Gene,
    model: Any,
    tokenizer: Any,
    refusals: Sequence[Preference],
    examples: Sequence[Preference],
    given: argparse.Namespace,
) -> dict[int, float]:
    """Layer -> its scalar, after `given.steps` steps of Adam over batches in turn."""
    rows = [encode(tokenizer, [(e.prompt, e.chosen) for e in part]) for part in (refusals, examples)]
    pairs = list(zip(*rows, strict=False))
    scalars = Scalars(gene.layers).to(model.device)
    optimiser = torch.optim.Adam(scalars.parameters(), lr=given.learning_rate)
    model.requires_grad_(False).eval()
    for step in tqdm(range(given.steps), desc="recalibrating", unit="step"):
        batch = [pairs[(step * _BATCH + place) % len(pairs)] for place in range(min(_BATCH, len(pairs)))]
        refused, task = (
            {name: tensor.to(model.device) for name, tensor in padded(part, tokenizer.pad_token_id).items()}
            for part in zip(*batch, strict=True)
        )
        alpha = dict(zip(scalars.layers, scalars(), strict=True))
        loss = recalibration_loss(model, gene.kept(), alpha, refused, task, given.eta) + given.rho * deviation(scalars.alpha)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return scalars.by_layer(scalars.alpha.tolist())


def apply(given: argparse.Namespace, console: Console) -> None:
    """
    Raises:
        KeelError: the gene does not fit, or something cannot be read or written.
    """
    if given.out.exists() and any(given.out.iterdir()):
        raise ConfigError(f"--out: {given.out} is not empty; give a new directory.")
    if (given.refusals is None) != (given.examples is None):
        raise ConfigError("--refusals and --examples: recalibration needs both; leave out both to take the gene as it is.")
    gene = Gene.load(given.gene)
    section = ModelSection(path=given.model, dtype=given.dtype)  # type: ignore[call-arg]  # pydantic's
    tokenizer, model = load_tokenizer(section, given.model), load_model(section, given.model).to(given.device)
    gene.check(model, tokenizer)
    alpha = dict.fromkeys(gene.layers, 1.0)
    if given.refusals is not None:
        alpha = recalibrated(gene, model, tokenizer, read_examples(given.refusals), read_examples(given.examples), given)
    console.print("alpha: " + ", ".join(f"{layer}: {value:.3f}" for layer, value in alpha.items()))
    given.out.mkdir(parents=True, exist_ok=True)
    if given.adapter:
        save_expressed(given.gene, gene.kept(), alpha, given.out)
    else:
        with other_weights(model, Weights(given.model), expressing(gene.kept(), alpha)):
            save_model(model, tokenizer, given.out)
    console.print(f"written: {given.out}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.gene", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("show", help="what a gene is")
    applied = commands.add_parser("apply", help="a gene in a model")
    for command in (shown, applied):
        command.add_argument("gene", type=Path, metavar="GENE", help="the directory `select` of a run")
    applied.add_argument("model", metavar="MODEL", help="the directory of a fine-tuned model")
    applied.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    applied.add_argument("--refusals", metavar="FILE", help="16 to 64 harmful prompts with their refusals")
    applied.add_argument("--examples", metavar="FILE", help="as many examples of the task")
    applied.add_argument("--adapter", action="store_true", help="write a PEFT adapter, not a merged model")
    applied.add_argument("--steps", type=int, default=100, metavar="N", help="of Adam (default: 100)")
    applied.add_argument("--learning-rate", type=float, default=TRAINED["learning_rate"], metavar="RATE", help="default: 0.01")
    applied.add_argument("--eta", type=float, default=1.0, help="weight of the divergence on the task (default: 1)")
    applied.add_argument("--rho", type=float, default=0.01, help="weight of ||alpha - 1||^2 (default: 0.01)")
    applied.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: float32")
    applied.add_argument("--device", default=device_of_rank(), help="default: the GPU, if there is one")
    given, console = parser.parse_args(arguments), Console()
    try:
        if given.command == "show":
            show(Gene.load(given.gene), console)
        else:
            apply(given, console)
    except KeelError as error:
        return explain(error)
    return 0


if __name__ == "__main__":
    prepare()
    sys.exit(main())
