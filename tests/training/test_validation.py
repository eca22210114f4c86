"""Rows that are held out, measured while a stage trains: the same curve on any number of ranks and after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.here import run_here
from tests.warm.client import warm_keel
from trainer.errors import Interrupted
from trainer.stopping import stop_request
from trainer.training.callbacks.start_line import StartLineCallback

COSALIGN = (
    "experiment=cosalign",
    "run.name=run",
    "evaluation=none",
    "tracking.mode=disabled",
    "data.prompts=40",
    "data.validation=11",
    "trainer.max_steps=4",
    "trainer.logging_steps=1",
    "trainer.eval_steps=2",
    "trainer.train_batch_size=8",
    "trainer.per_device_train_batch_size=4",
    "trainer.per_device_eval_batch_size=3",
    "sft.learning_rate=5e-4",
    "dpo.learning_rate=2e-4",
)
SFT = (
    "experiment=sft",
    *(one for one in COSALIGN[1:] if not one.startswith(("dpo", "trainer.eval", "trainer.per_device_eval", "sft"))),
)


def curve(stage_dir: Path) -> dict[int, dict[str, float]]:
    """Step -> what was measured of the rows that are held out."""
    found: dict[int, dict[str, float]] = {}
    for line in (stage_dir / "metrics.jsonl").read_text().splitlines():
        row: dict[str, Any] = json.loads(line)
        if "validation/loss" in row:
            assert row["step"] not in found, "measured twice"
            found[row["step"]] = {k.removeprefix("validation/"): v for k, v in row.items() if k.startswith("validation/")}
    return found


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(tmp_path_factory.mktemp("single"), *COSALIGN)


def test_the_curves_hold_loss_accuracies_and_margins(single: Path) -> None:
    sft, dpo = curve(single / "sft"), curve(single / "dpo")
    assert list(sft) == list(dpo) == [2, 4]
    assert {"rewards/accuracies", "rewards/margins"} <= dpo[2].keys()
    assert sft[4]["loss"] != sft[2]["loss"] and dpo[4]["rewards/margins"] > 0
    held = json.loads((single / "data" / "report.json").read_text())["validation"]
    assert held["dpo"]["all"] >= held["sft"]["all"] >= 11


def test_the_loss_is_that_of_plain_transformers(single: Path) -> None:
    """Of SFT: over the tokens of all replies that are held out, by the model as it is at the end."""
    import torch
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, at = single / "sft" / "model", single / "data" / "sft_validation" / "all"
    trained, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    nats, tokens = 0.0, 0
    for row in load_from_disk(str(at)):
        before = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"]
        with torch.no_grad():
            log_p = trained(torch.tensor([whole])).logits[0].log_softmax(-1)
        reply = range(len(before), len(whole))
        nats -= sum(float(log_p[place - 1, whole[place]]) for place in reply)
        tokens += len(reply)
    assert curve(single / "sft")[4]["loss"] == pytest.approx(nats / tokens, abs=1e-4)


@pytest.mark.parametrize("deepspeed", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_two_ranks_measure_what_one_does(single: Path, tmp_path: Path, deepspeed: str) -> None:
    warm_keel(*COSALIGN, f"deepspeed={deepspeed}", "launcher.processes=2", cwd=tmp_path)
    for stage in ("sft", "dpo"):
        expected, found = curve(single / stage), curve(tmp_path / "runs" / "run" / stage)
        assert list(found) == list(expected)
        for step, values in expected.items():
            assert found[step].keys() == values.keys()
            assert found[step]["loss"] == pytest.approx(values["loss"], abs=2e-4), (stage, step)
        assert found[4].get("rewards/margins", 0) == pytest.approx(expected[4].get("rewards/margins", 0), abs=2e-3)


@pytest.mark.parametrize("settings", [("trainer.eval_steps=2",), ("trainer.eval_strategy=epoch", "data.limit=20")])
def test_a_stop_at_any_step_leaves_the_curve_as_it_is(
    settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*SFT, *settings, "trainer.save_steps=100")
    whole = curve(run_here(tmp_path / "whole", *arguments) / "sft")
    assert whole
    for step in (1, 2):  # the second is one after which rows are measured

        def stop(self: Any, args: Any, state: Any, control: Any, at: int = step, **_: Any) -> None:
            stop_request.signal = "SIGTERM" if state.global_step == at else None  # type: ignore[assignment]

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(StartLineCallback, "on_step_end", stop)
            run_here(tmp_path / "stopped", *arguments)
        stop_request.signal = None
    assert curve(run_here(tmp_path / "stopped", *arguments) / "sft") == whole


def test_of_a_mixture_each_part_has_its_own_curve(tmp_path: Path) -> None:
    made = ("data=mixture", "data.parts.a.data.format=sandbox_mix", "data.parts.a.data.prompts=40")
    more = ("data.parts.b.data.format=sandbox", "data.parts.b.data.prompts=20", "data.parts.b.weight=3", "data.validation=0.2")
    left = tuple(one for one in SFT if not one.startswith("data."))
    run_dir = run_here(tmp_path, *left, *made, *more, "trainer.max_steps=1")
    report = json.loads((run_dir / "data" / "report.json").read_text())
    counts = {part: told["in_an_epoch"] for part, told in report["mixture"]["sft"].items()}
    assert counts["b"] == pytest.approx(3 * counts["a"], abs=3) and sum(counts.values()) == report["examples"]["sft"]
    (values,) = curve(run_dir / "sft").values()
    assert values["loss"] == pytest.approx(0.25 * values["a/loss"] + 0.75 * values["b/loss"])
    assert values["a/loss"] != values["b/loss"]


def test_kto_and_a_file_of_its_own(tmp_path: Path) -> None:
    rows = [{"prompt": f"what is {n} ?", "completion": f"it is {n}", "label": n % 2 == 0} for n in range(20)]
    for name, some in (("train", rows), ("held", rows[14:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    run_dir = run_here(
        tmp_path, "experiment=kto", "run.name=run", "evaluation=none", "data=unpaired", f"data.path={tmp_path}/train.jsonl",
        f"data.validation={tmp_path}/held.jsonl", "trainer.max_steps=2", "trainer.train_batch_size=4",
        "trainer.per_device_train_batch_size=4", "trainer.eval_on_start=true",
    )  # fmt: skip
    report = json.loads((run_dir / "data" / "report.json").read_text())
    assert report["validation"] == 6 and report["left_out"] == {"prompt in the validation data": 6}
    found = curve(run_dir / "kto")
    assert list(found) == [0, 1, 2] and found[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert {"kl", "rewards/margins"} <= found[2].keys()
