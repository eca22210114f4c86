"""SafeSteer's safety tokens: the vote against a slow, literal reading of the paper, and the rollouts that vote."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from trainer.config.shipped import BASE_DIR
from trainer.errors import ArtifactError, ConfigError, StageFailed
from trainer.methods.safesteer.rollouts import sample, seed_of
from trainer.methods.safesteer.safety_tokens import SAFETY_TOKENS, SafetyTokens, Vote, collect, random_tokens, special_tokens
from trainer.sandbox.instructions import sandbox_instructions
from trainer.sandbox.requests import REFUSAL

V = 60
SPECIAL = [0, 1, 2]
STOP, PAD = 2, 0
Chunk = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Names:
    """A tokenizer, as far as `select` needs one."""

    def decode(self, ids: list[int]) -> str:
        return f"<{ids[0]}>"


def random_chunk(batch: int = 7, steps: int = 5, seed: int = 0) -> Chunk:
    generator = torch.Generator().manual_seed(seed)
    teacher, base = (3 * torch.randn(batch, steps, V, generator=generator, dtype=torch.float64) for _ in range(2))
    return teacher, base, torch.rand(batch, steps, generator=generator) < 0.7


def chosen(vote: Vote, size: int = 10) -> SafetyTokens:
    return vote.select(Names(), "base", size)


def vote_of(*chunks: Chunk, votes: int = 8, min_probability: float = 0.0) -> Vote:
    vote = Vote(V, SPECIAL, votes, min_probability)
    for chunk in chunks:
        vote.add(*chunk)
    return vote


def one_step(teacher: dict[int, float], base: dict[int, float] | None = None) -> Chunk:
    """One valid step with these probabilities; what is left is spread evenly."""

    def logits(given: dict[int, float]) -> torch.Tensor:
        p = torch.full((1, 1, V), (1 - sum(given.values())) / (V - len(given)), dtype=torch.float64)
        for token, probability in given.items():
            p[..., token] = probability
        return p.log()

    return logits(teacher), logits(base or {}), torch.ones(1, 1, dtype=torch.bool)


# --------------------------------------------------------------------------------------------------------------- the vote
def brute_force(chunk: Chunk, votes: int, size: int, min_probability: float) -> list[tuple[int, int, float]]:
    """(token, votes, mean probability), step by step and token by token."""
    teacher, base, valid = chunk
    count, mass, steps = [0] * V, [0.0] * V, 0
    for b in range(valid.shape[0]):
        for t in range(valid.shape[1]):
            if not valid[b, t]:
                continue
            steps += 1
            p_teacher = torch.exp(teacher[b, t]) / torch.exp(teacher[b, t]).sum()
            p_base = torch.exp(base[b, t]) / torch.exp(base[b, t]).sum()
            may = [v for v in range(V) if v not in SPECIAL and float(p_teacher[v]) >= min_probability]
            delta = {v: float(torch.log(p_teacher[v]) - torch.log(p_base[v])) for v in may}
            for v in sorted(delta, key=lambda v: -delta[v])[:votes]:
                count[v] += 1
            for v in range(V):
                mass[v] += float(p_teacher[v])
    left = [v for v in range(V) if count[v]]
    left.sort(key=lambda v: (-count[v], -mass[v] / steps, v))
    return [(v, count[v], mass[v] / steps) for v in left[:size]]


@pytest.mark.parametrize(("votes", "size", "min_probability"), [(8, 10, 0.0), (8, 10, 0.02), (1, 50, 0.0), (57, 57, 0.01)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_vote_is_that_of_the_paper(votes: int, size: int, min_probability: float, seed: int) -> None:
    chunk = random_chunk(seed=seed)
    expected = brute_force(chunk, votes, size, min_probability)
    result = chosen(vote_of(chunk, votes=votes, min_probability=min_probability), size)
    assert [(v, n) for v, n, _ in expected] == list(zip(result.ids, result.votes, strict=True))
    assert result.mean_probability == pytest.approx([p for *_, p in expected], rel=1e-12)
    assert result.texts == [f"<{v}>" for v in result.ids]
    assert result.steps == int(chunk[2].sum())


def test_the_vote_does_not_depend_on_the_chunks() -> None:
    teacher, base, valid = random_chunk(batch=90)
    whole = vote_of((teacher, base, valid))
    parts = vote_of(*((teacher[i:j], base[i:j], valid[i:j]) for i, j in ((0, 1), (1, 40), (40, 90))))
    assert torch.equal(whole.votes, parts.votes)
    assert int(whole.steps) == int(parts.steps) > 200
    torch.testing.assert_close(whole.probability, parts.probability, rtol=1e-12, atol=0)


def test_ranks_add_up_all_that_they_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, base, valid = random_chunk()
    whole, mine, others = (vote_of((teacher[s], base[s], valid[s])) for s in (slice(0, 7), slice(0, 3), slice(3, 7)))
    pending = iter((others.votes, others.probability, others.steps))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(next(pending)))
    mine.merge()
    assert chosen(mine).votes == chosen(whole).votes
    assert chosen(mine).steps == chosen(whole).steps
    torch.testing.assert_close(mine.probability, whole.probability, rtol=1e-12, atol=0)


def test_what_stands_at_an_invalid_step_changes_nothing() -> None:
    teacher, base, valid = random_chunk()
    noisy = torch.where(valid[..., None], teacher, torch.nan)
    assert chosen(vote_of((noisy, base, valid))) == chosen(vote_of((teacher, base, valid)))


def test_half_precision_logits_are_compared_in_single_precision() -> None:
    teacher, base, valid = random_chunk()
    half = vote_of((teacher.bfloat16(), base.bfloat16(), valid))
    single = vote_of((teacher.bfloat16().float(), base.bfloat16().float(), valid))
    assert torch.equal(half.votes, single.votes)
    assert torch.equal(half.probability, single.probability)


def test_the_logits_are_left_as_they_were() -> None:
    chunk = random_chunk()
    before = [tensor.clone() for tensor in chunk]
    vote_of(chunk)
    assert all(torch.equal(a, b) for a, b in zip(chunk, before, strict=True))


# ------------------------------------------------------------------------------------------------------------- the choice
def test_a_special_token_takes_no_place_however_far_it_rises() -> None:
    step = one_step({1: 0.5, 5: 0.3, 6: 0.1})
    assert chosen(vote_of(step, votes=2)).ids == [5, 6]


def test_a_vocabulary_smaller_than_the_number_of_votes_gives_each_ordinary_token_one() -> None:
    result = chosen(vote_of(one_step({5: 0.5}), votes=200), size=200)
    assert sorted(result.ids) == list(range(3, V))
    assert set(result.votes) == {1}


def test_an_improbable_token_is_left_out_before_the_vote_so_that_its_place_goes_to_another() -> None:
    # 7 rises most, from next to nothing.
    step = one_step({7: 1e-9, 5: 0.5, 6: 0.1}, {7: 1e-15})
    assert chosen(vote_of(step, votes=2)).ids == [5, 7]
    assert chosen(vote_of(step, votes=2, min_probability=1e-8)).ids == [5, 6]


def test_whether_a_token_is_improbable_is_asked_at_each_step() -> None:
    steps = [one_step({5: 0.3, 6: 0.02}), one_step({5: 0.3, 6: 0.001}), one_step({5: 0.3, 6: 0.001})]
    result = chosen(vote_of(*steps, votes=2, min_probability=0.015))
    assert dict(zip(result.ids, result.votes, strict=True))[6] == 1


def test_ties_go_to_the_more_probable_token_and_then_to_the_smaller_id() -> None:
    steps = [one_step({9: 0.2, 8: 0.3, 7: 0.2, 20: 0.1}) for _ in range(2)]
    result = chosen(vote_of(*steps, votes=4))
    assert (result.ids, result.votes) == ([8, 7, 9, 20], [2, 2, 2, 2])


def test_a_token_without_a_vote_is_never_chosen() -> None:
    assert chosen(vote_of(one_step({5: 0.3, 6: 0.2}), votes=2), size=50).ids == [5, 6]


def test_no_token_left_fails_with_the_numbers() -> None:
    with pytest.raises(StageFailed, match=r"in 1 valid steps the teacher gave no .* probability of 0\.9\. Lower"):
        chosen(vote_of(one_step({5: 0.5}), min_probability=0.9))
    with pytest.raises(StageFailed, match="in 0 valid steps"):
        chosen(vote_of())


def test_a_teacher_that_overflows_fails() -> None:
    teacher, base, valid = one_step({5: 0.5})
    teacher[..., 3] = torch.nan
    with pytest.raises(StageFailed, match="probabilities are not finite"):
        chosen(vote_of((teacher, base, valid)))


# --------------------------------------------------------------------------------------------------------------- the file
def test_the_tokens_come_back_from_their_file(tmp_path: Path) -> None:
    tokens = chosen(vote_of(random_chunk()))
    tokens.save(tmp_path)
    assert SafetyTokens.load(tmp_path, "base") == tokens
    first = json.loads((tmp_path / SAFETY_TOKENS).read_text())["tokens"][0]
    assert first == {
        "id": tokens.ids[0], "text": tokens.texts[0], "votes": tokens.votes[0], "mean_probability": tokens.mean_probability[0]
    }  # fmt: skip


def test_tokens_of_another_base_are_refused(tmp_path: Path) -> None:
    chosen(vote_of(random_chunk())).save(tmp_path)
    with pytest.raises(ArtifactError, match=r"made for another base \(fingerprint base, this one's is other\)"):
        SafetyTokens.load(tmp_path, "other")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(path.read_text()[:200]),
        lambda path: path.write_text(path.read_text().replace("votes", "vote")),
        lambda path: path.write_text(path.read_text().replace('"tokens": [', '"tokens": [], "more": [')),
        lambda path: path.write_text("[]"),
    ],
    ids=["missing", "cut short", "without votes", "without tokens", "something else"],
)
def test_a_damaged_file_is_refused(damage: Callable[[Path], object], tmp_path: Path) -> None:
    chosen(vote_of(random_chunk())).save(tmp_path)
    damage(tmp_path / SAFETY_TOKENS)
    with pytest.raises(ArtifactError, match=r"safety_tokens\.json cannot be used: "):
        SafetyTokens.load(tmp_path, "base")


# ----------------------------------------------------------------------------------------------------------- the rollouts
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14], [20, 21, 22, 23], [30, 31]]
H = 4
SETTINGS: dict[str, Any] = {
    "rollouts": 3, "horizon": H, "votes": 8, "min_probability": 0.0, "batch_size": 4, "sampled_from": "teacher",
    "stop_tokens": [STOP], "special_tokens": SPECIAL, "pad_token": PAD, "seed": 0, "rank": 0, "world_size": 1,
}  # fmt: skip


def tiny(family: str) -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": STOP, "pad_token_id": PAD,
    }  # fmt: skip
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2)).double()
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape, attention_dropout=0.2, hidden_dropout=0.2)).double()


def steering(model: Any, bias: torch.Tensor) -> Callable[[], AbstractContextManager[None]]:
    """A teacher: `model` with a bias (V,) on its logits."""

    @contextlib.contextmanager
    def steered() -> Iterator[None]:
        handle = model.get_output_embeddings().register_forward_hook(lambda _module, _inputs, output: output + bias)
        try:
            yield
        finally:
            handle.remove()

    return steered


BIAS = torch.randn(V, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def one_by_one(model: Any, sampled_from: str, teacher_prompts: list[list[int]]) -> Vote:
    """Every rollout alone and unpadded, every step by its own forward pass."""
    vote, teacher = Vote(V, SPECIAL, 8), steering(model, BIAS)

    @torch.no_grad()
    def next_logits(tokens: list[int]) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=torch.tensor([tokens])).logits[:, -1:]
        return logits

    model.eval()
    for index, (prompt, teacher_prompt) in enumerate(zip(PROMPTS, teacher_prompts, strict=True)):
        heard = teacher_prompt if sampled_from == "teacher" else prompt
        for rollout in range(3):
            seeds = [seed_of("safety tokens", 0, index, rollout)]
            with teacher() if sampled_from == "teacher" else contextlib.nullcontext():
                (reply,) = sample(model, [heard], seeds, max_new_tokens=H, stop_tokens=[STOP], pad_token=PAD)
            for step in range(len(reply)):
                base = next_logits([*prompt, *reply[:step]])
                if base.argmax() == STOP:
                    break
                with teacher():
                    steered = next_logits([*teacher_prompt, *reply[:step]])
                vote.add(steered, base, torch.ones(1, 1, dtype=torch.bool))
    return vote


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param)


UNDER_A_SYSTEM_PROMPT = [[40, 41, *prompt] for prompt in PROMPTS]


@pytest.mark.parametrize("teacher_prompts", [PROMPTS, UNDER_A_SYSTEM_PROMPT], ids=["same", "longer"])
@pytest.mark.parametrize("sampled_from", ["teacher", "base"])
def test_batches_with_padding_vote_as_rollouts_taken_one_by_one(
    model: Any, sampled_from: str, teacher_prompts: list[list[int]]
) -> None:
    expected = one_by_one(model, sampled_from, teacher_prompts)
    model.train()
    for batch_size in (1, 4, 64):
        settings = SETTINGS | {"sampled_from": sampled_from, "batch_size": batch_size}
        vote = collect(model, steering(model, BIAS), PROMPTS, teacher_prompts, **settings)
        assert torch.equal(vote.votes, expected.votes)
        assert int(vote.steps) == int(expected.steps)
        torch.testing.assert_close(vote.probability, expected.probability)
    assert model.training  # it is left as it was
    assert len(PROMPTS) * 3 < int(expected.steps)


@pytest.mark.parametrize("world_size", [2, 3, 20])
def test_the_shares_of_the_ranks_make_up_the_whole_and_every_rank_runs_equally_often(world_size: int) -> None:
    model = tiny("llama")
    whole = collect(model, steering(model, BIAS), PROMPTS, PROMPTS, **SETTINGS)
    passes: list[int] = []
    parts: list[Vote] = []
    for rank in range(world_size):
        calls: list[int] = []

        def counted(calls: list[int] = calls) -> AbstractContextManager[None]:
            calls.append(1)
            return steering(model, BIAS)()

        settings = SETTINGS | {"batch_size": 2, "rank": rank, "world_size": world_size}
        parts.append(collect(model, counted, PROMPTS, PROMPTS, **settings))
        passes.append(len(calls))
    assert len(set(passes)) == 1
    assert torch.equal(sum(part.votes for part in parts), whole.votes)
    assert sum(int(part.steps) for part in parts) == int(whole.steps)
    torch.testing.assert_close(sum(part.probability for part in parts), whole.probability)


def ends_turn_at(step: int) -> Callable[..., torch.Tensor]:
    """A hook on the head of a model: step `step` of a reply alone ends the turn, and sampling never does."""

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[..., STOP] = -50.0
        if output.shape[1] == H:  # the pass over a whole rollout
            output[:, step, STOP] = 50.0
        return output

    return hook


@pytest.mark.parametrize("step", range(H))
def test_a_rollout_counts_up_to_where_the_base_would_end_its_turn(step: int) -> None:
    model = tiny("llama")
    handle = model.lm_head.register_forward_hook(ends_turn_at(step))
    vote = collect(model, contextlib.nullcontext, [[5, 6, 7]], [[5, 6, 7]], **SETTINGS)
    handle.remove()
    assert int(vote.steps) == 3 * step  # that step does not count, and none after it


def test_the_step_that_ends_a_rollout_counts_and_none_after_it() -> None:
    model = tiny("llama")
    only_stop = torch.full((V,), -100.0, dtype=torch.float64)
    only_stop[STOP] = 100.0
    vote = collect(model, steering(model, only_stop), PROMPTS, PROMPTS, **SETTINGS)
    assert int(vote.steps) == len(PROMPTS) * 3


def test_another_seed_gives_other_rollouts() -> None:
    model = tiny("llama")
    settings = [SETTINGS | {"seed": seed} for seed in (0, 0, 1)]
    first, again, other = (collect(model, steering(model, BIAS), PROMPTS, PROMPTS, **each) for each in settings)
    assert torch.equal(first.probability, again.probability)
    assert not torch.equal(first.probability, other.probability)


# ------------------------------------------------------------------------------------------------------------ the sandbox
def test_a_sandbox_teacher_that_leans_to_refusing_votes_for_the_words_of_the_refusal() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
    model = AutoModelForCausalLM.from_pretrained(BASE_DIR, dtype="float32")
    words = tokenizer(REFUSAL)["input_ids"]
    bias = torch.zeros(len(tokenizer))
    bias[words] = 4.0
    _, harmless = sandbox_instructions(seed=0)
    chats = [[{"role": "user", "content": prompt}] for prompt in random.Random(0).sample(harmless, 16)]
    prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True)["input_ids"]
    settings = SETTINGS | {
        "stop_tokens": [tokenizer.eos_token_id], "special_tokens": special_tokens(tokenizer),
        "pad_token": tokenizer.pad_token_id, "batch_size": 64, "votes": 20,
        "min_probability": 1e-8,
    }  # fmt: skip
    tokens = collect(model, steering(model, bias), prompts, prompts, **settings).select(tokenizer, "base", size=20)
    assert set(REFUSAL.split()) == set(tokens.texts[: len(set(words))])
    assert len(tokens.ids) == 20
    assert not {*tokens.ids} & {*tokenizer.all_special_ids}


# --------------------------------------------------------------------------------------------- special and random tokens
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["phi-3-mini", "minimind"])
def test_the_tokens_of_a_chat_template_are_special(name: str, public_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(public_data / "tokenizers" / name)
    special = set(special_tokens(tokenizer))
    empty = tokenizer.apply_chat_template([{"role": "user", "content": ""}], add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    assert {t for t in empty if tokenizer.convert_ids_to_tokens(t).startswith(("<|", "<s>"))} <= special
    assert {tokenizer.eos_token_id, tokenizer.bos_token_id} <= special
    assert len(special & {*empty}) >= 2
    assert not special & {*tokenizer("hello world , sorry", add_special_tokens=False)["input_ids"]}


def test_random_tokens_are_distinct_ordinary_and_follow_from_the_seed() -> None:
    tokens = random_tokens(V, 50, SPECIAL, seed=0)
    assert len(set(tokens)) == 50
    assert set(tokens) <= set(range(3, V))
    assert random_tokens(V, 50, SPECIAL, seed=0) == tokens != random_tokens(V, 50, SPECIAL, seed=1)
    assert {t for seed in range(200) for t in random_tokens(V, 5, SPECIAL, seed)} == set(range(3, V))


def test_more_random_tokens_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="58 random tokens are asked for, and only 57 are not special"):
        random_tokens(V, 58, SPECIAL, seed=0)
