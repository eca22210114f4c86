"""The refusal direction: found once, on the base, by difference of means (arXiv 2606.02530, section 1 of the method).

    r[pos, layer] = mean over harmful of h - mean over harmless of h      h: input of block `layer` at template position `pos`

The candidate whose removal leaves least refusal of harmful prompts wins, if it changes harmless prompts little and,
added, makes the model refuse them.

B batch, V vocabulary, H hidden size, L layers, P template positions, N prompts. All ranks run the same number of
forward passes and come to the same result.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from trainer.errors import ArtifactError, StageFailed
from trainer.items import Message
from trainer.methods.safesteer.refusal import Prompts, RefusalTokens, prompt_tokens, score
from trainer.methods.safesteer.section import DirectionSection
from trainer.models.blocks import ablated, decoder_blocks, recorded_inputs, steered
from trainer.models.finite import ruined
from trainer.record import hash_file, write_json

WEIGHTS, FACTS = "direction.safetensors", "direction.json"
MIN_TRAIN, MIN_VALIDATION = 8, 4  # prompts of either kind that must be left after filtering
_SHOWN = 20  # candidates in an error's table
_WORDS = 100  # tokens tried as instructions, to find where the template begins


@dataclass(frozen=True)
class Candidate:
    """One direction on the validation prompts; numbers are nan where nothing was measured.

    Attributes:
        position: -1 is the last token before the reply.
        bypass: mean refusal score of harmful prompts with the direction ablated.
        induce: mean refusal score of harmless prompts with the direction added.
        kl: mean KL(original || ablated) of the first reply token on harmless prompts, nats.
        dropped: why it cannot be taken.
    """

    position: int
    layer: int
    bypass: float = math.nan
    induce: float = math.nan
    kl: float = math.nan
    dropped: str | None = None


@dataclass(frozen=True)
class Direction:
    """A refusal direction and how it was found.

    Attributes:
        vector: (H,) float32, not normalised; to be added at the input of block `layer`.
        candidates: all of them, by position and layer.
        kept: set of prompts -> how many were left after filtering.
        base_fingerprint: of the model that it was found on; it means nothing to another.
    """

    vector: Tensor
    layer: int
    position: int
    candidates: list[Candidate]
    kept: dict[str, int]
    refusal: RefusalTokens
    base_fingerprint: str

    def save(self, directory: Path) -> list[Path]:
        """Writes direction.safetensors and direction.json, and returns their paths."""
        save_file({"vector": self.vector.contiguous()}, directory / WEIGHTS)
        facts = asdict(replace(self, vector=torch.empty(0)))
        facts["vector"] = {"sha256": hash_file(directory / WEIGHTS)}
        for candidate in facts["candidates"]:
            candidate.update({k: None for k, v in candidate.items() if isinstance(v, float) and math.isnan(v)})
        write_json(directory / FACTS, facts)
        return [directory / WEIGHTS, directory / FACTS]

    @classmethod
    def load(cls, directory: Path, base_fingerprint: str) -> Direction:
        """
        Raises:
            ArtifactError: a file is missing or damaged, or the direction belongs to another base.
        """
        try:
            facts = json.loads((directory / FACTS).read_text())
            if facts["vector"]["sha256"] != hash_file(directory / WEIGHTS):
                raise ValueError(f"{WEIGHTS} has other content than was written")
            facts["vector"] = load_file(directory / WEIGHTS)["vector"]
            if ruined([("vector", facts["vector"])]):
                raise ValueError("its vector is not finite")
            facts["refusal"] = RefusalTokens(**facts["refusal"])
            facts["candidates"] = [
                Candidate(**{name: value for name, value in candidate.items() if value is not None})
                for candidate in facts["candidates"]
            ]
            found = cls(**facts)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, SafetensorError) as error:
            raise ArtifactError(f"{directory}: holds no whole refusal direction ({error}); find it again.") from error
        if found.base_fingerprint != base_fingerprint:
            raise ArtifactError(
                f"{directory}: this refusal direction was found on the base {found.base_fingerprint}, and the model is "
                f"{base_fingerprint}; a direction fits only its own base, so find it again."
            )
        return found


def template_positions(tokenizer: Any) -> int:
    """P: the tokens that the bare chat template puts after every instruction, the reply's opening included.

    A token that holds the end of an instruction as well as template is not one of them.
    """
    # The tokenizer's own words: to a small vocabulary, all others are one and the same unknown token.
    words = [tokenizer.decode([token]) for token in range(0, len(tokenizer), max(1, len(tokenizer) // _WORDS))]
    endings = [*(word for word in words if word.isalnum()), "a?", "a.", "a!", "a)", "1"]
    rows = [tokens[::-1] for tokens in prompt_tokens(tokenizer, [chat_of(ending) for ending in endings])]
    common = 0
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        common += 1
    return common


def chat_of(instruction: str) -> list[Message]:
    """An instruction without a system prompt."""
    return [{"role": "user", "content": instruction}]


def candidate_directions(model: Any, harmful: Prompts, harmless: Prompts, positions: int) -> Tensor:
    """Difference of the means of the residual stream at every block's input and at the last `positions` tokens.

    Returns:
        (P, L, H) float64, not normalised; row p is position p - P.
    """
    return _mean_inputs(model, harmful, positions) - _mean_inputs(model, harmless, positions)


def _mean_inputs(model: Any, prompts: Prompts, positions: int) -> Tensor:
    layers, hidden = len(decoder_blocks(model)), model.config.get_text_config().hidden_size
    total = torch.zeros(layers, positions, hidden, dtype=torch.float64)
    with recorded_inputs(model, lambda inputs: inputs[:, -positions:].double()) as records:
        for weights, _ in zip(prompts.weights(), prompts.last_logits(), strict=True):
            for layer, inputs in enumerate(records):  # (B, P, H)
                total[layer] += torch.einsum("b,bph->ph", weights.to(inputs.device), inputs).cpu()
    return prompts.sum_over_ranks(total).transpose(0, 1) / prompts.count


def find_direction(
    model: Any,
    tokenizer: Any,
    train_harmful: Sequence[str],
    train_harmless: Sequence[str],
    val_harmful: Sequence[str],
    val_harmless: Sequence[str],
    refusal: RefusalTokens,
    thresholds: DirectionSection,
    batch_size: int,
    base_fingerprint: str,
) -> Direction:
    """Filter the instructions, make a candidate for every template position and layer, measure them, take the best.

    Raises:
        StageFailed: too few instructions are left, or no candidate passes; the same on every rank.
    """
    tokens = torch.tensor(refusal.ids)

    def prompts(instructions: Sequence[str]) -> Prompts:
        return Prompts(model, tokenizer, [chat_of(instruction) for instruction in instructions], batch_size)

    def kept(instructions: Sequence[str], refused: bool) -> list[str]:
        everything = prompts(instructions)
        scores = everything.gather([score(logits, tokens) for logits in everything.last_logits()]).tolist()
        return [i for i, s in zip(instructions, scores, strict=True) if (s > 0 if refused else s < 0)]

    sets = {
        "train harmful": (train_harmful, True, MIN_TRAIN),
        "train harmless": (train_harmless, False, MIN_TRAIN),
        "validation harmful": (val_harmful, True, MIN_VALIDATION),
        "validation harmless": (val_harmless, False, MIN_VALIDATION),
    }
    left = {name: kept(instructions, refused) for name, (instructions, refused, _) in sets.items()}
    if few := [name for name, (_, _, least) in sets.items() if len(left[name]) < least]:
        raise StageFailed(
            "too few instructions are left to find a refusal direction: "
            + ", ".join(f"{name} {len(left[name])} of {len(sets[name][0])} (at least {sets[name][2]})" for name in few)
            + ". Harmful ones count where the base is likely to refuse, harmless ones where it is not. Give more instructions, "
            "or a base that refuses."
        )
    directions = candidate_directions(
        model, prompts(left["train harmful"]), prompts(left["train harmless"]), template_positions(tokenizer)
    )
    measured = measure(
        model, directions, prompts(left["validation harmful"]), prompts(left["validation harmless"]), tokens, thresholds
    )
    candidates, best = select(measured, directions.shape[1], thresholds)
    return Direction(
        vector=directions[best.position, best.layer].float(),
        layer=best.layer,
        position=best.position,
        candidates=candidates,
        kept={name: len(instructions) for name, instructions in left.items()},
        refusal=refusal,
        base_fingerprint=base_fingerprint,
    )


def measure(
    model: Any, directions: Tensor, harmful: Prompts, harmless: Prompts, tokens: Tensor, thresholds: DirectionSection
) -> list[Candidate]:
    """Bypass, induce and KL of every candidate (P, L, H) of a layer that may be taken; the others stay unmeasured."""
    positions, layers, _ = directions.shape
    pairs = [(position, layer) for position in range(-positions, 0) for layer in range(layers)]
    original = [logits.float().log_softmax(-1) for logits in harmless.last_logits()]
    candidates = []
    rank = dist.get_rank() if dist.is_initialized() else 0
    for position, layer in tqdm(pairs, desc="refusal direction", unit="candidate", disable=rank != 0):
        if layer >= thresholds.layers(layers):
            candidates.append(Candidate(position, layer))
            continue
        vector = directions[position, layer]
        with ablated(model, vector):
            bypass = harmful.gather([score(logits, tokens) for logits in harmful.last_logits()])
            kl = harmless.gather(
                [divergence(before, logits) for before, logits in zip(original, harmless.last_logits(), strict=True)]
            )
        with steered(model, layer, vector):
            induce = harmless.gather([score(logits, tokens) for logits in harmless.last_logits()])
        candidates.append(Candidate(position, layer, bypass.mean().item(), induce.mean().item(), kl.mean().item()))
    return candidates


def divergence(log_p: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)) in nats, (B,), from log p (B, V) and logits (B, V)."""
    log_q = logits.to(log_p.dtype).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def select(candidates: Sequence[Candidate], layers: int, thresholds: DirectionSection) -> tuple[list[Candidate], Candidate]:
    """All candidates, each with the reason why it is dropped if it is, and the one of lowest bypass among the rest.

    Raises:
        StageFailed: all are dropped; the text shows the best of them and why.
    """

    def reason(candidate: Candidate) -> str | None:
        if candidate.layer >= thresholds.layers(layers):
            return f"layer >= {thresholds.layers(layers)} of {layers}"
        if any(math.isnan(value) for value in (candidate.bypass, candidate.induce, candidate.kl)):
            return "not a number"
        if candidate.kl > thresholds.max_kl:
            return f"kl > {thresholds.max_kl:g}"
        if candidate.induce < thresholds.min_induce:
            return f"induce < {thresholds.min_induce:g}"
        return None

    judged = [replace(candidate, dropped=reason(candidate)) for candidate in candidates]
    left = [candidate for candidate in judged if candidate.dropped is None]
    if not left:
        raise StageFailed(
            f"no refusal direction: all {len(judged)} candidates are dropped.\n{_table(judged)}\nUse more instructions, "
            "another base, or other thresholds in method.direction."
        )
    return judged, min(left, key=lambda c: (c.bypass, c.layer, c.position))


def _table(candidates: Sequence[Candidate]) -> str:
    best = sorted(candidates, key=lambda c: (math.isnan(c.bypass), c.bypass))[:_SHOWN]
    table = Table(title=f"the {len(best)} of lowest bypass", title_justify="left")
    for column in ("position", "layer", "bypass", "induce", "kl"):
        table.add_column(column, justify="right")
    table.add_column("dropped")
    for c in best:
        table.add_row(str(c.position), str(c.layer), f"{c.bypass:.2f}", f"{c.induce:.2f}", f"{c.kl:.3f}", c.dropped)
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
