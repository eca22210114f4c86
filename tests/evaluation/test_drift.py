"""Perplexity of ordinary answers, and divergence from the base: against brute force, and in a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from tests.conftest import results
from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.sections import ModelSection
from trainer.config.shipped import BASE_DIR
from trainer.errors import ConfigError
from trainer.evaluation.statistics import ratio_interval
from trainer.evaluation.suites.drift.measure import divergence, entries, log_probabilities, measure
from trainer.evaluation.suites.drift.section import DriftEvaluation
from trainer.items import Contender
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.chain import stage_named
from trainer.pipeline.context import StageContext

ROWS = [{"prompt": f"what is {n} plus 2 ?", "response": str(n + 2) + " and so on" * (n % 3)} for n in range(1, 8)]


@pytest.fixture(scope="module")
def base() -> Any:
    return load_model(ModelSection(path=str(BASE_DIR), dtype="float32"), str(BASE_DIR)).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelSection(path=str(BASE_DIR)), str(BASE_DIR))


def rows_file(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shifted(model: Any, by: float) -> Any:
    """Another model: the same, with its head's weights moved."""
    other = load_model(ModelSection(path=str(BASE_DIR), dtype="float32"), str(BASE_DIR)).eval()
    with torch.no_grad():
        torch.manual_seed(0)
        other.lm_head.weight += by * torch.randn_like(other.lm_head.weight)
    return other


def test_every_token_of_an_answer_has_the_probability_that_it_has_alone(base: Any) -> None:
    sequences = [([5, 6, 7, 8], [9, 10]), ([11], [12, 13, 14]), ([5, 5], [6])]
    for (prompt, answer), found in zip(sequences, log_probabilities(base, sequences), strict=True):
        with torch.no_grad():
            alone = base(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        torch.testing.assert_close(found, alone[len(prompt) - 1 : -1], atol=1e-5, rtol=1e-5)


def test_the_divergence_is_that_of_torch_and_zero_of_the_same() -> None:
    torch.manual_seed(0)
    model, base = (torch.randn(5, 11).log_softmax(-1) for _ in range(2))
    expected = torch.nn.functional.kl_div(base, model, log_target=True, reduction="sum").item()
    assert divergence(model, base) == pytest.approx(expected, rel=1e-5) and divergence(model, model) == 0.0
    certain = torch.tensor([[0.0, -torch.inf]])
    assert divergence(certain, torch.tensor([[0.5, 0.5]]).log()) == pytest.approx(math.log(2))


def measured(
    tmp_path: Path, models: dict[str, Any], tokenizer: Any, contenders: list[Contender], **keys: Any
) -> tuple[dict[str, Any], list[str]]:
    """What the suite says of models, and which were loaded, in order."""
    suite = TypeAdapter(DriftEvaluation).validate_python(
        {"benchmark": "drift", "sets": {"sums": str(rows_file(tmp_path / "rows.jsonl"))}, "resamples": 50, **keys}
    )
    config = load_config(composed(["experiment=sft", f"paths.runs={tmp_path}"]))
    loaded: list[str] = []

    @contextmanager
    def loading(weights: str) -> Iterator[tuple[Any, Any]]:
        loaded.append(weights)
        yield models[weights], tokenizer

    with StageContext(config, tmp_path, stage_named(config, "evaluate"), 0, 1) as context:
        return measure(suite, context, contenders, loading), loaded


def test_perplexity_and_divergence_against_brute_force(base: Any, tokenizer: Any, tmp_path: Path) -> None:
    models = {"base": base, "sft": shifted(base, 0.02)}
    rows = [Contender("base", "base", shows_config=False), Contender("sft", "sft")]
    found, loaded = measured(tmp_path, models, tokenizer, rows, tokens=3, batch_size=4)
    assert loaded == ["base", "base", "sft"]  # once to compare with, and never two together
    nll, kl, count = {"base": 0.0, "sft": 0.0}, 0.0, 0
    for row in ROWS:
        chat = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        answer = tokenizer(row["response"], add_special_tokens=False)["input_ids"][:3]
        said = {}
        for name, model in models.items():
            with torch.no_grad():
                said[name] = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            nll[name] -= sum(said[name][place, token].item() for place, token in enumerate(answer))
        kl += (said["sft"].exp() * (said["sft"] - said["base"])).sum().item()
        count += len(answer)
    for name in models:
        metric = found[name].metrics["answer_perplexity/sums"]
        assert metric["value"] == pytest.approx(math.exp(nll[name] / count), rel=1e-4) and metric["n"] == len(ROWS)
        assert metric["ci95"][0] < metric["value"] < metric["ci95"][1]
        assert found[name].metrics["answer_perplexity"] == metric
    assert found["sft"].metrics["kl_to_base"]["value"] == pytest.approx(kl / count, rel=1e-3)
    assert "kl_to_base" not in found["base"].metrics  # against itself there is nothing to measure


def test_what_was_measured_is_not_measured_again(base: Any, tokenizer: Any, tmp_path: Path) -> None:
    models = {"base": base, "sft": shifted(base, 0.02)}
    rows = [Contender("base", "base", shows_config=False), Contender("sft", "sft")]
    first, _ = measured(tmp_path, models, tokenizer, rows)
    (kept,) = (tmp_path / "evaluate" / "drift").glob("*.jsonl")
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:-9])  # killed in the last line but one
    again, loaded = measured(tmp_path, models, tokenizer, rows)
    assert loaded == ["base", "sft"] and again["base"] == first["base"]
    for name, metric in first["sft"].metrics.items():  # other answers stood beside these two: rounding differs
        assert again["sft"].metrics[name]["value"] == pytest.approx(metric["value"], rel=1e-4)
    assert measured(tmp_path, {}, tokenizer, rows)[1] == []


def test_a_system_prompt_moves_the_base_and_what_gives_no_likelihoods_is_left_out(
    base: Any, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [Contender("base", "base", shows_config=False), Contender("told", "base", system="say no"), Contender("other", "x")]
    found, _ = measured(tmp_path, {"base": base, "x": object()}, tokenizer, rows)
    assert found["told"].metrics["kl_to_base"]["value"] > 0.001
    assert found["other"].metrics == {} and found["base"].metrics.keys() == {"answer_perplexity", "answer_perplexity/sums"}


def test_entries_weigh_answers_by_their_tokens() -> None:
    rows = [("a", {"nll": 2.0, "kl": 0.5, "tokens": 1}), ("b", {"nll": 1.0, "kl": 0.1, "tokens": 3}), ("b", None)]
    found = entries(rows, 50, 0)
    assert found["answer_perplexity"]["value"] == pytest.approx(math.exp(3 / 4)) and found["answer_perplexity"]["n"] == 2
    assert found["kl_to_base/b"] == {"value": pytest.approx(0.1 / 3), "ci95": None, "n": 1}
    interval = ratio_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 50, 0)
    assert interval == (1.0, 1.0)


@pytest.mark.slow
def test_a_run_measures_its_models(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "rows.jsonl")
    small = ("data.prompts=40", "trainer.max_steps=1", "evaluation.resamples=50")
    run_dir = run_here(tmp_path, "experiment=sft", *small, "evaluation=drift", f"evaluation.sets.sums={path}")
    models = results(run_dir)["models"]
    assert list(models) == ["base", "sft"] and models["base"]["answer_perplexity"]["n"] == len(ROWS)
    assert models["sft"]["kl_to_base/sums"]["value"] >= 0.0
    assert not (run_dir / "evaluate" / "responses.jsonl").exists()


def test_what_cannot_work_is_said(tmp_path: Path, base: Any) -> None:
    path = rows_file(tmp_path / "rows.jsonl", [{"prompt": "a"}])
    empty = rows_file(tmp_path / "empty.jsonl", [{"prompt": "a", "response": " "}])
    labelled = rows_file(tmp_path / "labelled.jsonl", [{"prompt": "a", "response": "b", "label": "safe"}])
    load_config(composed(["experiment=sft", "evaluation=drift", f"evaluation.sets.x={labelled}"]))
    for overrides, line in (
        ((), "evaluation.sets: there is nothing to measure on; set evaluation.sets.NAME=FILE"),
        ((f"evaluation.sets.x={path}",), f"evaluation.sets.x: {path}: row 1: format chat needs"),
        (
            (f"evaluation.sets.x={empty}",),
            f"evaluation.sets.x: {empty}: has no reply to a user's turn; give examples",
        ),
        (("evaluation.sets.x=./no.csv",), "evaluation.sets.x: ./no.csv does not exist"),
        (("evaluation.sets.x=./no.csv", "evaluation.splits.y=test"), "evaluation.splits.y: there is no such set; "),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(composed(["experiment=sft", "evaluation=drift", *overrides]))
        assert any(problem.startswith(line) for problem in caught.value.problems), caught.value.problems
    with pytest.raises(ConfigError, match="are 600 tokens, and the model has positions for 512; take the row out, or lower"):
        log_probabilities(base, [([1] * 598, [2, 3])])


def test_a_contender_that_differs_in_its_config_alone_is_not_measured_twice() -> None:
    suite = TypeAdapter(DriftEvaluation).validate_python({"benchmark": "drift"})
    rows = [Contender("base", "base", shows_config=False), Contender("ica", "base"), Contender("sft", "sft")]
    assert [c.label for c in suite.contenders(rows)] == ["base", "sft"]
