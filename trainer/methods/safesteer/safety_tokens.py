"""The safety tokens of SafeSteer (arXiv 2606.02530): the vocabulary entries that the teacher raises most often.

At every step of short rollouts the vocabulary is ranked by

    delta(v) = log p_teacher(v) - log p_base(v)        on the same prefix

and the step votes for its first K' tokens, special ones and those that the teacher finds improbable left out. The safety set
is the K tokens with most votes: one for all prompts and positions.

Shapes: B batch, T tokens (steps of a rollout), N valid steps, V vocabulary.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from tqdm import tqdm

from trainer.errors import ArtifactError, ConfigError, StageFailed
from trainer.methods.safesteer.rollouts import sample, seed_of
from trainer.record import write_json

SAFETY_TOKENS = "safety_tokens.json"
_ROWS = 32  # steps ranked at a time: beside the logits, a few arrays of (_ROWS, V) are alive


@dataclass(frozen=True)
class SafetyTokens:
    """The safety set, most votes first.

    Attributes:
        ids, texts: the tokens.
        votes: how many steps had each among their first K'.
        mean_probability: what the teacher gives each, over all valid steps.
        steps: how many valid steps there were.
        base_fingerprint: the model that they were chosen for.
    """

    ids: list[int]
    texts: list[str]
    votes: list[int]
    mean_probability: list[float]
    steps: int
    base_fingerprint: str

    def save(self, directory: Path) -> None:
        """Write `safety_tokens.json`, one object per token."""
        columns = zip(self.ids, self.texts, self.votes, self.mean_probability, strict=True)
        tokens = [{"id": i, "text": text, "votes": v, "mean_probability": p} for i, text, v, p in columns]
        write_json(
            directory / SAFETY_TOKENS, {"base_fingerprint": self.base_fingerprint, "steps": self.steps, "tokens": tokens}
        )

    @classmethod
    def load(cls, directory: Path, base_fingerprint: str) -> SafetyTokens:
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing or damaged, or was made for another base.
        """
        path = directory / SAFETY_TOKENS
        try:
            value = json.loads(path.read_text())
            tokens = value["tokens"]
            loaded = cls(
                ids=[int(t["id"]) for t in tokens],
                texts=[str(t["text"]) for t in tokens],
                votes=[int(t["votes"]) for t in tokens],
                mean_probability=[float(t["mean_probability"]) for t in tokens],
                steps=int(value["steps"]),
                base_fingerprint=str(value["base_fingerprint"]),
            )
            if not tokens or len(set(loaded.ids)) < len(tokens):
                raise ValueError("it has no tokens, or one of them twice")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(
                f"{path} cannot be used: {type(error).__name__}: {error}. Delete it to have the safety tokens chosen again."
            ) from error
        if loaded.base_fingerprint != base_fingerprint:
            raise ArtifactError(
                f"{path} was made for another base (fingerprint {loaded.base_fingerprint}, this one's is {base_fingerprint}); "
                "delete it to have the safety tokens chosen for this one."
            )
        return loaded


class Vote:
    """Counts the votes chunk by chunk and keeps only two numbers a vocabulary entry.

    Special tokens, and those that are improbable at a step, are left out of its ranking, so that no vote is wasted on them.

    Attributes:
        votes: (V,) int64.
        probability: (V,) float64, the teacher's probabilities summed over valid steps.
        steps: () int64, valid steps so far.
    """

    def __init__(
        self,
        vocabulary: int,
        special_tokens: Sequence[int],
        votes: int = 200,
        min_probability: float = 0.0,
        device: torch.device | str = "cpu",
    ):
        """
        Args:
            votes: K', how many tokens each step votes for.
            min_probability: a step does not vote for tokens to which the teacher gives less.
        """
        self.min_probability = min_probability
        self.special_tokens = torch.tensor(sorted(set(special_tokens)), dtype=torch.long, device=device)
        self.places = min(votes, vocabulary - len(self.special_tokens))
        self.votes = torch.zeros(vocabulary, dtype=torch.int64, device=device)
        self.probability = torch.zeros(vocabulary, dtype=torch.float64, device=device)
        self.steps = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, teacher_logits: torch.Tensor, base_logits: torch.Tensor, valid: torch.Tensor) -> None:
        """Count one chunk. Differences are taken in float32, or float64 where the logits are.

        Args:
            teacher_logits, base_logits: (B, T, V), on the same prefixes.
            valid: (B, T) bool; the other steps count nothing.
        """
        rows, columns = valid.nonzero(as_tuple=True)  # (N,) each
        for row, column in zip(rows.split(_ROWS), columns.split(_ROWS), strict=True):
            teacher, base = (_log_probabilities(logits[row, column]) for logits in (teacher_logits, base_logits))
            self.probability += teacher.exp().sum(0, dtype=torch.float64)
            improbable = teacher.exp() < self.min_probability
            delta = teacher.sub_(base).masked_fill_(improbable, -torch.inf).index_fill_(-1, self.special_tokens, -torch.inf)
            best = delta.topk(self.places)
            self.votes += best.indices[best.values > -torch.inf].bincount(minlength=len(self.votes))
        self.steps += len(rows)

    def merge(self) -> None:
        """Sum over all ranks; call it once, on every rank. Without torch.distributed there is nothing to do."""
        if dist.is_initialized():
            for total in (self.votes, self.probability, self.steps):
                dist.all_reduce(total)

    def select(self, tokenizer: Any, base_fingerprint: str, size: int = 50) -> SafetyTokens:
        """The `size` tokens with most votes; ties go to the more probable token, then to the smaller id. Tokens without a vote
        are left out, so there may be fewer.

        Raises:
            StageFailed: no token is left, or the probabilities are not finite.
        """
        steps = int(self.steps)
        mean = self.probability.cpu() / max(steps, 1)
        if not mean.isfinite().all():
            raise StageFailed(
                "the teacher's probabilities are not finite, so no safety tokens can be chosen; load the model in bfloat16 or "
                "float32, and check the refusal direction."
            )
        votes, means = self.votes.tolist(), mean.tolist()
        voted = [token for token, count in enumerate(votes) if count]
        ids = sorted(voted, key=lambda t: (-votes[t], -means[t], t))[:size]
        if not ids:
            raise StageFailed(
                f"no safety token is left: in {steps} valid steps the teacher gave no ordinary token a probability of "
                f"{self.min_probability:g}. Lower method.tokens.min_probability; without a valid step, the base ends its turn "
                "at once: check its chat template."
            )
        return SafetyTokens(
            ids=ids,
            texts=[tokenizer.decode([t]) for t in ids],
            votes=[votes[t] for t in ids],
            mean_probability=[means[t] for t in ids],
            steps=steps,
            base_fingerprint=base_fingerprint,
        )


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def collect(
    model: Any,
    teacher: Callable[[], AbstractContextManager[Any]],
    prompts: Sequence[Sequence[int]],
    teacher_prompts: Sequence[Sequence[int]],
    *,
    rollouts: int,
    horizon: int,
    votes: int,
    min_probability: float,
    batch_size: int,
    sampled_from: Literal["teacher", "base"],
    stop_tokens: Sequence[int],
    special_tokens: Sequence[int],
    pad_token: int,
    seed: int,
    rank: int,
    world_size: int,
) -> Vote:
    """Roll out short replies and let every step vote. Each rank does its share, and all get the sum.

    A step is valid up to the end of its rollout, and until the base's most probable token ends the turn. A batch holds
    2 x (batch_size, horizon, V) logits. The result does not depend on `batch_size` or `world_size`, but for rounding.

    Args:
        model: the base. Every rank runs it equally often, as sharded weights need.
        teacher: within its context, `model` is the teacher.
        prompts: token ids of harmless prompts, up to where the reply begins.
        teacher_prompts: the same as the teacher sees them, under its system prompt where it has one.
        rollouts: replies per prompt, at temperature 1.
        horizon: tokens per reply.
        votes, min_probability: see `Vote`.
        sampled_from: who speaks in the rollouts.
        stop_tokens: what ends a turn.
        special_tokens: never voted for.
    """
    speaker, heard = (teacher, teacher_prompts) if sampled_from == "teacher" else (nullcontext, prompts)
    stops = torch.tensor(list(stop_tokens), device=model.device)
    vote = Vote(model.config.get_text_config().vocab_size, special_tokens, votes, min_probability, model.device)
    by_length = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))  # little padding in a batch
    asked = [(index, rollout) for index in by_length for rollout in range(rollouts)]
    was_training = model.training
    model.eval()
    step = batch_size * world_size
    for start in tqdm(range(0, len(asked), step), desc="voting for safety tokens", unit="batch", disable=rank != 0):
        share = asked[start : start + step][rank::world_size]
        batch = share or asked[:1]  # runs as the others do, and counts nothing
        seeds = [seed_of("safety tokens", seed, index, rollout) for index, rollout in batch]
        with speaker():
            replies = sample(
                model, [heard[index] for index, _ in batch], seeds,
                max_new_tokens=horizon, stop_tokens=stop_tokens, pad_token=pad_token,
            )  # fmt: skip
        with teacher():
            teacher_logits = _reply_logits(model, [teacher_prompts[index] for index, _ in batch], replies, horizon, pad_token)
        base_logits = _reply_logits(model, [prompts[index] for index, _ in batch], replies, horizon, pad_token)
        lengths = torch.tensor([len(reply) if share else 0 for reply in replies], device=model.device)
        within = torch.arange(horizon, device=model.device) < lengths[:, None]
        goes_on = ~torch.isin(base_logits.argmax(-1), stops)
        vote.add(teacher_logits, base_logits, within & goes_on.cumprod(-1).bool())
    model.train(was_training)
    vote.merge()
    return vote


@torch.no_grad()
def _reply_logits(
    model: Any, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], horizon: int, pad_token: int
) -> torch.Tensor:
    """What predicts each token of the replies, (B, horizon, V); past the end of a reply, anything.

    Prompts are padded on the left and replies on the right, so that all replies begin at the same place.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width + horizon - 1), pad_token)
    mask = torch.zeros_like(ids)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        tokens = [*prompt, *reply[: horizon - 1]]  # nothing is asked after the last token
        here = slice(width - len(prompt), width - len(prompt) + len(tokens))
        ids[row, here] = torch.tensor(tokens)
        mask[row, here] = 1
    output = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
        use_cache=False,
        logits_to_keep=horizon,
    )
    logits: torch.Tensor = output.logits[:, -horizon:]
    return logits


def special_tokens(tokenizer: Any) -> list[int]:
    """All special tokens, also those that only a chat template uses, which `all_special_ids` may lack (Phi-3's `<|end|>`)."""
    marked = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return sorted(marked | set(tokenizer.all_special_ids))


def random_tokens(vocabulary: int, size: int, special: Sequence[int], seed: int) -> list[int]:
    """The ablation: `size` tokens chosen at random, none of them special.

    Raises:
        ConfigError: the vocabulary has fewer.
    """
    ordinary = sorted(set(range(vocabulary)) - set(special))
    if size > len(ordinary):
        raise ConfigError(f"{size} random tokens are asked for, and only {len(ordinary)} are not special; ask for fewer.")
    return random.Random(f"safety tokens-{seed}").sample(ordinary, size)
