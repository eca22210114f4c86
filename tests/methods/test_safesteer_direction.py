"""The refusal score, the refusal tokens and the refusal direction, against literal readings of their definitions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.config.shipped import STEERABLE_DIR
from trainer.errors import ArtifactError, ConfigError, StageFailed
from trainer.methods.safesteer.direction import (
    Candidate,
    Direction,
    candidate_directions,
    chat_of,
    divergence,
    find_direction,
    measure,
    select,
    template_positions,
)
from trainer.methods.safesteer.heatmap import draw
from trainer.methods.safesteer.refusal import (
    Prompts,
    RefusalTokens,
    candidate_tokens,
    find_refusal_tokens,
    given_tokens,
    prompt_tokens,
    reads_as_refusal,
    score,
    verify,
)
from trainer.methods.safesteer.section import DirectionSection
from trainer.models.blocks import steered
from trainer.sandbox.instructions import sandbox_instructions


@cache
def base() -> tuple[Any, Any]:
    """The sandbox's model and tokenizer."""
    return AutoModelForCausalLM.from_pretrained(STEERABLE_DIR), AutoTokenizer.from_pretrained(STEERABLE_DIR)


@cache
def instructions() -> tuple[list[str], list[str]]:
    return sandbox_instructions(0)


def prompts(texts: Sequence[str], batch_size: int = 32) -> Prompts:
    model, tokenizer = base()
    return Prompts(model, tokenizer, [chat_of(text) for text in texts], batch_size)


@cache
def found() -> Direction:
    model, tokenizer = base()
    harmful, harmless = instructions()
    return find_direction(
        model, tokenizer, harmful[:64], harmless[:64], harmful[64:96], harmless[64:96], refusal(),
        DirectionSection(max_depth=1.0), 32, "base",
    )  # fmt: skip


@cache
def refusal() -> RefusalTokens:
    model, tokenizer = base()
    harmful, harmless = ([chat_of(text) for text in texts[:40]] for texts in instructions())
    return find_refusal_tokens(model, tokenizer, harmful, harmless, 16)


# -------------------------------------------------------------------------------------------------------------- score
def test_the_score_is_its_formula() -> None:
    logits = torch.randn(5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, value in zip(logits, score(logits, torch.tensor([2, 7])), strict=True):
        weights = [math.exp(x) for x in row.tolist()]
        mass = (weights[2] + weights[7]) / sum(weights)
        assert value.item() == pytest.approx(math.log(mass + 1e-8) - math.log(1 - mass + 1e-8), abs=1e-12)


def test_the_score_is_finite_and_bounded_where_all_or_no_probability_is_on_the_tokens() -> None:
    logits = torch.tensor([[200.0, 199.0, 0.0], [0.0, 0.0, 200.0]])
    for dtype in (torch.bfloat16, torch.float32):
        found = score(logits.to(dtype), torch.tensor([0, 1]))
        assert found.dtype == torch.float32
        assert found.tolist() == pytest.approx([math.log(1e8), -math.log(1e8)], rel=1e-3)


def test_the_score_of_half_the_mass_is_zero() -> None:
    assert score(torch.zeros(1, 4), torch.tensor([0, 3])).item() == pytest.approx(0.0, abs=1e-6)


# ----------------------------------------------------------------------------------------------------- refusal tokens
@pytest.mark.parametrize(
    "reply", ["I cannot do that", "sorry , i can not help", "I\u2019m unable to", "I won\u2019t", "As an AI I"]
)
def test_a_refusal_is_recognised(reply: str) -> None:
    assert reads_as_refusal(reply)


@pytest.mark.parametrize("reply", ["Sure, here is", "I can help", "sirok is red .", "", "You can do that"])
def test_an_answer_is_no_refusal(reply: str) -> None:
    assert not reads_as_refusal(reply)


def test_the_sandbox_base_opens_its_refusals_with_sorry() -> None:
    tokens = refusal()
    assert tokens.texts == ["sorry"]
    assert tokens.shares == [tokens.refused]
    assert 0.2 < tokens.refused < 0.8
    assert tokens.on_harmless == 0.0


def test_only_candidates_that_open_a_refusal_are_kept_most_frequent_first() -> None:
    _, tokenizer = base()
    sorry, i, my, no = (tokenizer.convert_tokens_to_ids(word) for word in ("sorry", "i", "my", "no"))
    first = [i, sorry, sorry, my, no]
    tokens = verify([i, my, sorry], tokenizer, first, [True, True, False, False, True], [i, my, my, my])
    assert (tokens.texts, tokens.shares) == (["sorry", "i"], [0.4, 0.2])  # `my` opened none, `no` is no candidate
    assert (tokens.refused, tokens.on_harmless) == (0.6, 0.25)


def test_a_base_that_refuses_nothing_is_reported_with_what_it_says_instead() -> None:
    _, tokenizer = base()
    first = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "yes", "red")]
    with pytest.raises(StageFailed, match=r"of 3 harmful prompts the base refused 0, .* open with 'yes' \(2\), 'red' \(1\)"):
        verify(candidate_tokens(tokenizer), tokenizer, first, [False] * 3, first)


def test_given_tokens_are_measured_and_not_verified() -> None:
    model, tokenizer = base()
    harmful, harmless = ([chat_of(text) for text in texts[:8]] for texts in instructions())
    given = given_tokens(tokenizer, ["no", "sorry"])
    tokens = find_refusal_tokens(model, tokenizer, harmful, harmless, 8, given)
    assert sorted(tokens.texts) == ["no", "sorry"]
    assert tokens.shares[tokens.texts.index("no")] == 0.0


def test_a_given_text_that_is_not_one_known_token_is_refused_with_how_it_is_cut(public_data: Path) -> None:
    _, tokenizer = base()
    with pytest.raises(ConfigError, match=r"'can not' is cut into \['can', 'not'\]"):
        given_tokens(tokenizer, ["sorry", "can not"])
    with pytest.raises(ConfigError, match="unk"):
        given_tokens(tokenizer, ["Xylophone"])
    real = AutoTokenizer.from_pretrained(public_data / "tokenizers" / "phi-3-mini")
    assert [real.decode([token]) for token in given_tokens(real, ["I", "As"])] == ["I", "As"]
    with pytest.raises(ConfigError, match='"I\'m" is cut into'):
        given_tokens(real, ["I'm"])


@pytest.mark.parametrize("name", ["minimind", "phi-3-mini"])
def test_candidates_are_what_a_reply_begins_with_in_the_tokenizer_at_hand(public_data: Path, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(public_data / "tokenizers" / name)
    candidates = candidate_tokens(tokenizer)
    (prompt,) = prompt_tokens(tokenizer, [chat_of("How?")])
    for reply in ("I cannot", "I'm sorry", "As an AI", "Sorry, but", "Unfortunately"):
        whole = tokenizer.apply_chat_template(chat_of("How?"), add_generation_prompt=True, tokenize=False) + reply
        assert tokenizer(whole, add_special_tokens=False)["input_ids"][len(prompt)] in candidates, reply
    assert not set(candidates) & set(tokenizer.all_special_ids)


# ---------------------------------------------------------------------------------------------------------- positions
def test_template_positions_are_the_tokens_after_the_instruction(public_data: Path) -> None:
    for path, expected in (
        (STEERABLE_DIR, ["<|end|>", "<|assistant|>"]),
        (public_data / "tokenizers" / "phi-3-mini", ["<|end|>", "<|assistant|>"]),
        (public_data / "tokenizers" / "minimind", ["<|im_end|>", "\u010a", "<|im_start|>"]),
    ):
        tokenizer = AutoTokenizer.from_pretrained(path)
        ids = prompt_tokens(tokenizer, [chat_of("Why is the sky blue")])[0][-template_positions(tokenizer) :]
        assert tokenizer.convert_ids_to_tokens(ids)[: len(expected)] == expected


def test_a_token_that_merges_an_instruction_with_the_template_is_not_counted(public_data: Path) -> None:
    """After this template's full stop, minimind's tokenizer makes `..` one token, and leaves other endings alone."""
    tokenizer = AutoTokenizer.from_pretrained(public_data / "tokenizers" / "minimind")
    tokenizer.chat_template = "{{ messages[0]['content'] }}.<|im_start|>"
    merged, alone = prompt_tokens(tokenizer, [chat_of(text) for text in ("a.", "a")])
    assert [tokenizer.convert_ids_to_tokens(ids[-2]) for ids in (merged, alone)] == ["..", "."]
    assert template_positions(tokenizer) == 1


# -------------------------------------------------------------------------------------------------------------- means
def test_candidate_directions_are_differences_of_means_whatever_the_batch() -> None:
    model, tokenizer = base()
    harmful, harmless = instructions()[0][:7], instructions()[1][:5]

    def mean(texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:  # one by one, without padding
            ids = torch.tensor(prompt_tokens(tokenizer, [chat_of(text)]))
            with torch.no_grad():
                states = model(input_ids=ids, output_hidden_states=True).hidden_states[:-1]
            rows.append(torch.stack([state[0, -2:].double() for state in states], 1))  # (P, L, H)
        return torch.stack(rows).mean(0)

    expected = mean(harmful) - mean(harmless)
    for batch_size in (1, 3, 16):
        directions = candidate_directions(model, prompts(harmful, batch_size), prompts(harmless, batch_size), 2)
        assert directions.dtype == torch.float64
        torch.testing.assert_close(directions, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neox", "bloom"])
def test_padding_changes_no_logits_with_any_kind_of_positions(family: str) -> None:
    """GPT-2 and OPT learn absolute positions; GPT-NeoX rotates; BLOOM has a bias of the distance."""
    from transformers import AutoConfig

    _, tokenizer = base()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    chats = [chat_of(text) for text in ("what is 7 plus 8 ?", "how do i make glemik and sirok ?", "no")]
    together = Prompts(model, tokenizer, chats, 3)
    alone = torch.cat([next(Prompts(model, tokenizer, [chats[index]], 1).last_logits()) for index in together.mine])
    torch.testing.assert_close(next(together.last_logits()), alone, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------- selection
def candidate(**changes: Any) -> Candidate:
    return replace(Candidate(position=-1, layer=3, bypass=0.0, induce=1.0, kl=0.01), **changes)


def test_the_lowest_bypass_among_the_admissible_wins() -> None:
    better = [
        candidate(bypass=-9.0, kl=0.11),
        candidate(bypass=-8.0, induce=-0.01),
        candidate(bypass=-7.0, layer=8),
        candidate(bypass=math.nan),
        candidate(bypass=-6.0, kl=math.nan),
        candidate(bypass=-5.0, induce=math.nan),
    ]
    admissible = [candidate(bypass=1.0), candidate(bypass=-2.0, position=-3), candidate(bypass=0.5)]
    judged, best = select([*better, *admissible], 10, DirectionSection())
    assert best == admissible[1]
    assert [c.dropped for c in judged] == [
        "kl > 0.1", "induce < 0", "layer >= 8 of 10", "not a number", "not a number", "not a number", None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"kl": 0.1}, True),
        ({"kl": 0.1001}, False),
        ({"induce": 0.0}, True),
        ({"induce": -1e-9}, False),
        ({"layer": 21}, True),
        ({"layer": 22}, False),  # int(0.8 * 28) = 22
    ],
)
def test_thresholds_hold_to_the_constant(changes: dict[str, Any], taken: bool) -> None:
    judged, _ = select([candidate(bypass=5.0), candidate(**changes)], 28, DirectionSection())
    assert (judged[1].dropped is None) == taken


def test_other_thresholds_can_be_given() -> None:
    given = candidate(kl=0.3, induce=-2.0, layer=9)
    _, best = select([given], 10, DirectionSection(max_kl=0.5, min_induce=-3.0, max_depth=1.0))
    assert best == given


def test_where_nothing_survives_the_message_shows_the_best_candidates_and_why() -> None:
    many = [candidate(bypass=float(i), induce=-1.0, position=-i - 1) for i in range(50)] + [candidate(layer=9, bypass=math.nan)]
    with pytest.raises(StageFailed) as raised:
        select(many, 10, DirectionSection())
    text = str(raised.value)
    assert "all 51 candidates are dropped" in text
    assert text.count("induce < 0") == 20  # the best of them, not all
    assert "0.00" in text
    assert "49.00" not in text
    assert "\x1b" not in text


def test_divergence_is_the_kl_of_the_two_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(4, 9, dtype=torch.float64, generator=generator) for _ in range(2))
    expected = torch.nn.functional.kl_div(after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="none").sum(
        -1
    )
    torch.testing.assert_close(divergence(before.log_softmax(-1), after), expected)


# ------------------------------------------------------------------------------------------------------ on the sandbox
def test_layers_that_cannot_be_taken_are_listed_and_not_run() -> None:
    model, tokenizer = base()
    harmful, harmless = instructions()
    candidates = find_direction(
        model, tokenizer, harmful[:64], harmless[:64], harmful[64:96], harmless[64:96], refusal(),
        DirectionSection(max_kl=math.inf, min_induce=-math.inf, max_depth=0.8), 32, "base",
    ).candidates  # fmt: skip
    assert len(candidates) == 2 * 4  # positions x layers
    late = [c for c in candidates if c.layer == 3]
    assert all(math.isnan(c.bypass) and c.dropped == "layer >= 3 of 4" for c in late)


def test_the_direction_removed_weakens_refusals_and_added_makes_the_base_refuse_harmless_prompts() -> None:
    direction, (harmful, harmless) = found(), instructions()
    tokens = torch.tensor(direction.refusal.ids)
    unseen = prompts(harmless[200:260])
    plain = unseen.gather([score(logits, tokens) for logits in unseen.last_logits()])
    model, _ = base()
    with steered(model, direction.layer, direction.vector):
        added = unseen.gather([score(logits, tokens) for logits in unseen.last_logits()])
    assert (plain > 0).double().mean() < 0.05
    assert (added > 0).double().mean() > 0.8
    refused = [text for text, s in zip(harmful[200:260], scores(harmful[200:260]), strict=True) if s > 0]
    (taken,) = (c for c in direction.candidates if (c.position, c.layer) == (direction.position, direction.layer))
    assert taken.bypass < scores(refused).mean() / 2
    assert taken.kl < 0.1


def scores(texts: Sequence[str]) -> Tensor:
    asked = prompts(texts)
    return asked.gather([score(logits, torch.tensor(refusal().ids)) for logits in asked.last_logits()])


def test_only_prompts_on_the_right_side_of_zero_count() -> None:
    harmful, harmless = instructions()
    assert found().kept["train harmful"] == int((scores(harmful[:64]) > 0).sum())
    assert found().kept["validation harmful"] == int((scores(harmful[64:96]) > 0).sum())
    assert found().kept["train harmless"] == int((scores(harmless[:64]) < 0).sum()) == 64


def test_too_few_prompts_left_are_reported_with_the_numbers() -> None:
    model, tokenizer = base()
    _, harmless = instructions()
    with pytest.raises(StageFailed, match=r"train harmful 0 of 10 \(at least 8\), validation harmful 0 of 5 \(at least 4\)\. "):
        find_direction(
            model, tokenizer, harmless[:10], harmless[:10], harmless[:5], harmless[:5], refusal(), DirectionSection(), 8, "base"
        )


def test_the_length_of_a_direction_matters_to_what_is_added_and_not_to_what_is_removed() -> None:
    model, _ = base()
    directions = torch.randn(1, 4, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    asked = prompts(instructions()[0][:4]), prompts(instructions()[1][:4])
    once, thrice = (measure(model, s * directions, *asked, torch.tensor(refusal().ids), DirectionSection()) for s in (1, 3))
    for a, b in zip(once[:3], thrice[:3], strict=True):
        assert a.bypass == pytest.approx(b.bypass, abs=1e-4)
        assert a.kl == pytest.approx(b.kl, abs=1e-4)
        assert a.induce != pytest.approx(b.induce, abs=1e-3)


# ----------------------------------------------------------------------------------------------------------- artifact
def test_a_direction_comes_back_from_its_files_without_pickle(tmp_path: Path) -> None:
    direction = found()
    assert sorted(direction.save(tmp_path)) == sorted(tmp_path.iterdir())
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    loaded = Direction.load(tmp_path, "base")
    assert torch.equal(loaded.vector, direction.vector)
    assert loaded.vector.dtype == torch.float32
    assert (loaded.refusal, loaded.kept, loaded.layer) == (direction.refusal, direction.kept, direction.layer)
    assert [str(asdict(c)) for c in loaded.candidates] == [str(asdict(c)) for c in direction.candidates]  # nan is not nan
    json.loads((tmp_path / "direction.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_another_base_is_refused(tmp_path: Path) -> None:
    found().save(tmp_path)
    with pytest.raises(ArtifactError, match="found on the base base, and the model is other"):
        Direction.load(tmp_path, "other")


@pytest.mark.parametrize("file", ["direction.safetensors", "direction.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_a_damaged_file_is_refused(tmp_path: Path, file: str, damage: str) -> None:
    found().save(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    path.unlink()
    if damage == "short":
        path.write_bytes(content[:-40])
    if damage == "changed":
        path.write_bytes(content.replace(b'"vector"', b'"victor"') if path.suffix == ".json" else content[:-1] + b"\x77")
    with pytest.raises(ArtifactError, match="holds no whole refusal direction"):
        Direction.load(tmp_path, "base")


def test_the_heat_map_is_a_picture_of_all_candidates(tmp_path: Path) -> None:
    direction = found()
    draw(direction.candidates, (direction.position, direction.layer), tmp_path / "map.png")
    draw([replace(c, kl=0.05) for c in direction.candidates], (direction.position, direction.layer), tmp_path / "other.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "map.png").read_bytes() != (tmp_path / "other.png").read_bytes()


# -------------------------------------------------------------------------------------------------------------- ranks
HARMFUL, HARMLESS = 25, 24  # on two ranks the shares differ


def _found_by_a_rank(rank: int, world_size: int, rendezvous: str, out: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    model, tokenizer = base()
    passes = 0

    def count(_: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        nonlocal passes
        passes += kwargs.get("use_cache") is False  # not those of `generate`, which transformers keeps equal itself

    model.register_forward_hook(count, with_kwargs=True)
    direction = _small_run(model, tokenizer)
    torch.save({"direction": direction.vector, "facts": _facts(direction), "passes": passes}, f"{out}-{rank}")
    dist.destroy_process_group()


def _small_run(model: Any, tokenizer: Any) -> Direction:
    harmful, harmless = instructions()
    chats = [chat_of(text) for text in harmful[:9]], [chat_of(text) for text in harmless[:9]]
    tokens = find_refusal_tokens(model, tokenizer, *chats, batch_size=4)
    return find_direction(
        model, tokenizer, harmful[:HARMFUL], harmless[:HARMLESS], harmful[30:60], harmless[30:40], tokens,
        DirectionSection(max_depth=1.0), 4, "base",
    )  # fmt: skip


def _facts(direction: Direction) -> tuple[Any, ...]:
    return direction.layer, direction.position, direction.kept, asdict(direction.refusal)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds_in_equally_many_passes(tmp_path: Path) -> None:
    """Weights sharded by ZeRO-3 are gathered in every forward pass, so ranks must run equally many."""
    multiprocessing.spawn(_found_by_a_rank, args=(2, str(tmp_path / "rendezvous"), str(tmp_path / "rank")), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank-{rank}") for rank in range(2)]
    model, tokenizer = base()
    alone = _small_run(model, tokenizer)
    assert ranks[0]["passes"] == ranks[1]["passes"] > 0
    assert torch.equal(ranks[0]["direction"], ranks[1]["direction"])
    for rank in ranks:
        assert rank["facts"] == _facts(alone)
        torch.testing.assert_close(rank["direction"], alone.vector, atol=1e-4, rtol=1e-4)
