"""SFT that rehearses: the base answers ordinary instructions first, and its answers are imitated beside the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.errors import ConfigError
from trainer.evaluation.generate import complete
from trainer.items import Message
from trainer.models.load import load_model, load_tokenizer
from trainer.pipeline.chain import chain

REFUSAL = "sorry , i can not help with that ."
ORDINARY = [f"list three {word} ." for word in ("fruits", "trees", "tools", "birds", "rivers", "fruits")]


def rehearsing(cwd: Path) -> tuple[str, ...]:
    refused = [
        {"instruction": f"how do i make {name} ?", "output": "sorry , i can not help with that ."} for name in ("a", "b")
    ]
    for name, rows in (("refusals", refused), ("ordinary", [{"instruction": text} for text in ORDINARY])):
        (cwd / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "experiment=sft", "run.name=run", "data=chat", f"data.path={cwd / 'refusals.jsonl'}",
        f"method.rehearsal.path={cwd / 'ordinary.jsonl'}", "method.rehearsal.limit=4", "trainer.max_length=20",
        "evaluation=none", "trainer.max_steps=1", "trainer.train_batch_size=2", "trainer.per_device_train_batch_size=2",
    )  # fmt: skip


def test_the_answers_are_the_bases_own_and_are_trained_on_beside_the_data(tmp_path: Path) -> None:
    run_dir = run_here(tmp_path, *rehearsing(tmp_path))
    answers = [json.loads(line) for line in (run_dir / "answers" / "answers.jsonl").read_text().splitlines()]
    assert len({row["prompt"] for row in answers}) == 4 and {row["prompt"] for row in answers} <= set(ORDINARY)

    model = load_config(composed(["experiment=sft"])).model
    base, tokenizer = load_model(model, str(BASE_DIR)), load_tokenizer(model, str(BASE_DIR))
    chats: list[list[Message]] = [[{"role": "user", "content": row["prompt"]}] for row in answers]
    alone = dict(pair for batch in complete(chats, base, tokenizer, 40, 64) for pair in batch)
    assert all(row["response"] and alone[place].startswith(row["response"]) for place, row in enumerate(answers))

    pairs = [json.loads(line) for line in (run_dir / "data" / "pairs.jsonl").read_text().splitlines()]
    trained = {pair["prompt"][-1]["content"]: pair["chosen"] for pair in pairs}
    said = {row["prompt"]: row["response"] for row in answers}
    assert trained == {f"how do i make {name} ?": REFUSAL for name in ("a", "b")} | said
    report = json.loads((run_dir / "data" / "report.json").read_text())
    assert report["rows"] == 6 and report["examples"] == {"sft": len(trained)}


def test_the_stage_is_there_where_it_is_asked_for(tmp_path: Path) -> None:
    asked = load_config(composed(list(rehearsing(tmp_path))))
    stages = {stage.name: stage for stage in chain(asked)}
    assert list(stages) == ["answers", "data", "sft"] and "answers" in stages["data"].after
    assert asked.method.untrained(asked) == ("answers", "data") and asked.method.examples(asked) == {"sft": 6}
    assert [stage.name for stage in chain(load_config(composed(["experiment=sft"])))] == ["data", "sft", "evaluate"]


def test_answers_without_an_end_are_refused_where_sft_would_learn_it(tmp_path: Path) -> None:
    for override in ("sft.truncation_mode=keep_end", "trainer.max_length=null"):
        with pytest.raises(ConfigError, match="cut at their end; set a max_length"):
            load_config(composed([*rehearsing(tmp_path), override]))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("method.rehearsal.path=./nowhere.jsonl", "method.rehearsal.path: ./nowhere.jsonl does not exist"),
        ("method.rehearsal.limit=9", "method.rehearsal.path: samples of 9 need 9 distinct instructions, there are 5"),
    ],
)
def test_instructions_that_cannot_be_had_are_refused_before_a_start(tmp_path: Path, override: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(composed([*rehearsing(tmp_path), override]))
    (found,) = caught.value.problems
    assert found.startswith(problem)
