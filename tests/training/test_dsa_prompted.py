"""The base as its own judge, from config to results, beside a trained guardrail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import results
from tests.training.test_dsa_guardrails import RUN, here
from tests.warm.client import warm_keel
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.config.stage import Stage
from trainer.data.labelled import Labelled
from trainer.methods.dsa.examples import encode
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.dsa.stage_data import read_sets
from trainer.methods.dsa.stage_guardrail import read_probabilities
from trainer.methods.dsa.stage_prompted import answer_tokens, question, share_of_answers
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.context import StageContext

STAGE = "guardrail_prompted"
ASKED = ("~method.guardrails.rtb", "~method.guardrails.lst", "method.baselines=[prompted]", "trainer.max_steps=1")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return here(tmp_path_factory.mktemp("asked"), *ASKED, "evaluation.resamples=50")


def test_every_label_of_every_validation_and_test_row_has_the_probability_that_the_base_gives_it_alone(asked: Path) -> None:
    config = load_config(composed([*RUN, *ASKED]))
    assert isinstance(config.method, DsaMethod)
    tokenizer, base = load_tokenizer(config.model, str(BASE_DIR)), load_model(config.model, str(BASE_DIR)).eval()
    unsafe, safe = answer_tokens(tokenizer, config.method.prompted)
    rows = [(of_set, row) for of_set, of_rows in read_sets(asked).items() for row in of_rows]
    lines = read_probabilities(asked, STAGE)
    assert [line["row"] for line in lines] == [index for index, (of_set, _) in enumerate(rows) if of_set != "train"]
    assert all(line["p"].keys() == line["labels"].keys() for line in lines)
    for line in lines[::3]:
        for label, p in line["p"].items():
            (example,) = encode(tokenizer, [Labelled(question(config.method.prompted, rows[line["row"]][1], label))])
            with torch.no_grad():
                chances = base(torch.tensor([example.ids])).logits[0, -1].softmax(-1)
            assert p == pytest.approx(float(chances[unsafe] / (chances[unsafe] + chances[safe])), abs=1e-4)


def test_results_have_it_beside_the_trained_guardrails(asked: Path) -> None:
    metrics = results(asked)["models"]["base"]
    for of_set in ("seen", "unseen", "responses"):
        assert metrics[f"guardrail_auc/prompted/{of_set}"]["value"] > 0.6
        assert f"guardrail_auc/plr/{of_set}" in metrics
    assert {f"guardrail_tpr/prompted/{of_set}" in metrics for of_set in ("seen", "unseen")} == {True}


def test_nothing_of_it_is_trained_and_its_threshold_is_set_like_the_others(asked: Path) -> None:
    report = json.loads((asked / STAGE / "report.json").read_text())
    assert (report["labels"], report["trained_parameters"]) == (["prompt", "response"], 0)
    lines = [line for line in read_probabilities(asked, STAGE) if line["set"] == "validation"]
    benign = [line["p"]["prompt"] for line in lines if line["labels"]["prompt"] == 0]
    assert sum(p >= report["tau"] for p in benign) == int(0.05 * len(benign))
    assert not (asked / STAGE / "checkpoints").exists()


def test_ranks_share_the_questions_and_give_the_same_probabilities(asked: Path) -> None:
    config = load_config(composed([*RUN, *ASKED]))
    tokenizer, base = load_tokenizer(config.model, str(BASE_DIR)), load_model(config.model, str(BASE_DIR)).eval()
    answers = tuple(tokenizer.convert_tokens_to_ids(["no", "yes"]))
    questions = [f"is {row.prompt} allowed here ?" for row in read_sets(asked)["unseen"][:21]]
    alone, first, second = (
        share_of_answers(StageContext(config, asked, Stage(STAGE, ""), rank, world), questions, tokenizer, base, answers)
        for rank, world in ((0, 1), (0, 2), (1, 2))
    )
    assert len(first) == len(second) == 11
    assert first | second == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
def test_two_processes_with_shards_ask_what_one_asks(asked: Path, tmp_path: Path) -> None:
    warm_keel(*RUN, *ASKED, "evaluation=none", "deepspeed=zero3", "launcher.processes=2", cwd=tmp_path)
    expected, found = (read_probabilities(run, STAGE) for run in (asked, tmp_path / "runs" / "run"))
    assert [{**line, "p": pytest.approx(line["p"], abs=1e-4)} for line in expected] == found
