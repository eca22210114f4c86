"""Rebuild the sandbox's base models: `python -m trainer.sandbox.build [--out DIR] [--share 0.1]`.

Trains a Llama of about a million parameters from scratch on `corpus.py`, and that one a little further; writes models and
tokenizer. They ship with the package in `trainer/sandbox/base/` and `steerable/`; nothing at run time needs this file.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.config.shipped import BASE_DIR
from trainer.sandbox.corpus import CONSOLIDATION, FOUNDATION, TEMPERAMENT, Mixture, sample_conversation
from trainer.sandbox.tokenizer import build_tokenizer
from trainer.terminal import prepare

SEED = 0
TOKENS_PER_BATCH = 8192
WARMUP = 100  # steps


@dataclass(frozen=True)
class Phase:
    name: str
    mixture: Mixture
    steps: int
    learning_rate: float


# Directory -> the phases after those of the one before it.
PHASES = {
    "base": (Phase("foundation", FOUNDATION, 2400, 3e-3), Phase("consolidation", CONSOLIDATION, 1200, 1.5e-3)),
    "steerable": (Phase("temperament", TEMPERAMENT, 600, 1e-3),),
}


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """About 1M parameters: 4 layers of width 128, 4 heads."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _batches(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, mixture: Mixture
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (input_ids, labels), each about TOKENS_PER_BATCH tokens of conversations of similar length."""
    while True:
        encoded: Any = tokenizer.apply_chat_template(
            [sample_conversation(rng, mixture) for _ in range(2048)],
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        rows = sorted(zip(encoded["input_ids"], encoded["assistant_masks"], strict=True), key=lambda r: len(r[0]))
        batches: list[list[Any]] = []
        batch: list[Any] = []
        for row in rows:
            if batch and (len(batch) + 1) * len(row[0]) > TOKENS_PER_BATCH:
                batches.append(batch)
                batch = []
            batch.append(row)
        rng.shuffle(batches)
        for batch in batches:
            width = len(batch[-1][0])
            ids = torch.full((len(batch), width), tokenizer.pad_token_id)
            labels = torch.full((len(batch), width), -100)
            for index, (tokens, mask) in enumerate(batch):
                ids[index, : len(tokens)] = torch.tensor(tokens)
                labels[index, : len(tokens)] = torch.where(torch.tensor(mask) == 1, torch.tensor(tokens), -100)
            yield ids, labels


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, phase: Phase) -> None:
    """One phase: AdamW, linear warm-up, cosine to zero. Its data and optimiser start afresh, so phases can be run apart."""
    rng = random.Random(f"{SEED}-{phase.name}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    with tqdm(total=phase.steps, desc=phase.name, unit="step") as bar:
        for step, (ids, labels) in zip(range(phase.steps), _batches(tokenizer, rng, phase.mixture), strict=False):
            rate = phase.learning_rate * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / phase.steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = model(input_ids=ids, labels=labels).loss  # right padding: causal attention never sees it
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def build(out: Path, share: float = 1.0) -> None:
    """Train all phases and save both models. The same seed gives the same models on the same kind of machine."""
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    model = new_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, vocabulary {len(tokenizer)}")
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for name, phases in PHASES.items():
        for phase in phases:
            train(model, tokenizer, replace(phase, steps=max(1, int(phase.steps * share))))
        model.save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
        print(f"saved to {out / name}")


if __name__ == "__main__":
    prepare()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BASE_DIR.parent, help="has a directory for each")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, for a quick try")
    arguments = parser.parse_args()
    build(arguments.out, arguments.share)
