"""SafeSteer through the command a user types, on the sandbox: one process or two, sharded or not, stopped and resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import losses, results
from tests.training.here import run_here
from tests.warm.client import stop_warm, warm_keel
from trainer.errors import ArtifactError

# fp32 on CPU; what differs is the order of sums over ranks and shards.
LOSS_TOLERANCE = 2e-4

RUN = (
    "experiment=safesteer",
    "run.name=run",
    "method.ablations=[]",
    "method.tokens.rollouts=2",
    "method.rollouts=4",
    "trainer.train_batch_size=16",
    "trainer.per_device_train_batch_size=4",
    "trainer.max_steps=5",
    "trainer.save_steps=2",
    "on_policy.learning_rate=1e-3",
    "tracking.mode=disabled",
)
LOGGED = (
    "loss", "loss_sign", "student_mass", "teacher_mass", "mass_ratio", "entropy", "probe_refusals", "tokens_per_second",
    "generation_share", "completions/mean_length",
)  # fmt: skip


def _rows(stage_dir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (stage_dir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "train/loss" in row]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, no DeepSpeed, every stage."""
    cwd = tmp_path_factory.mktemp("single")
    warm_keel(*RUN, "evaluation=none", "deepspeed=none", "launcher.processes=1", cwd=cwd)
    return cwd / "runs" / "run"


def _from(run_dir: Path) -> tuple[str, ...]:
    """The direction and the tokens of an earlier run."""
    return f"method.direction.path={run_dir / 'direction'}", f"method.tokens.path={run_dir / 'tokens'}"


def test_the_stages_leave_artifacts_that_a_person_can_read(single: Path) -> None:
    direction = json.loads((single / "direction" / "direction.json").read_text())
    assert (single / "direction" / "candidates.png").stat().st_size > 10_000
    assert "sorry" in direction["refusal"]["texts"]
    teacher = json.loads((single / "teacher" / "report.json").read_text())
    assert teacher["teacher_refuses_harmless"] > 0.9 > 0.1 > teacher["base_refuses_harmless"]
    tokens = json.loads((single / "tokens" / "safety_tokens.json").read_text())
    assert tokens["tokens"][0]["text"] == "sorry"
    for row in _rows(single / "student"):
        assert all(isinstance(row[f"train/{name}"], float) for name in LOGGED), row
        assert 0 < row["train/generation_share"] < 1


def test_training_moves_the_student_towards_the_teacher_on_the_safety_tokens(single: Path) -> None:
    """The loss itself does not show it: its samples are the student's own, and other ones at every step."""
    rows = _rows(single / "student")
    assert rows[-1]["train/mass_ratio"] > rows[0]["train/mass_ratio"] + 0.1


@pytest.mark.parametrize("deepspeed", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_two_processes_give_the_result_of_one(single: Path, tmp_path: Path, deepspeed: str) -> None:
    """Under ZeRO-3 every stage: the direction and the tokens come from sharded weights too."""
    given = () if deepspeed == "zero3" else _from(single)
    warm_keel(*RUN, *given, "evaluation=none", f"deepspeed={deepspeed}", "launcher.processes=2", cwd=tmp_path)
    run_dir = tmp_path / "runs" / "run"
    vectors = [load_file(run / "direction" / "direction.safetensors")["vector"] for run in (single, run_dir)]
    assert torch.allclose(*vectors, atol=1e-4)
    tokens = [json.loads((run / "tokens" / "safety_tokens.json").read_text())["tokens"] for run in (single, run_dir)]
    assert [(t["text"], t["votes"]) for t in tokens[0]] == [(t["text"], t["votes"]) for t in tokens[1]]
    assert losses(run_dir / "student") == pytest.approx(losses(single / "student"), abs=LOSS_TOLERANCE)


def test_stopped_and_resumed_equals_undisturbed(single: Path, tmp_path: Path) -> None:
    arguments = (*RUN, *_from(single), "evaluation=none", "deepspeed=none", "launcher.processes=1")
    stop_warm(*arguments, cwd=tmp_path, metrics=tmp_path / "runs" / "run" / "student" / "metrics.jsonl", step=2)
    warm_keel(*arguments, cwd=tmp_path)
    assert losses(tmp_path / "runs" / "run" / "student") == losses(single / "student")
    trained = [load_file(run / "student" / "model" / "model.safetensors") for run in (single, tmp_path / "runs" / "run")]
    assert all(weight.equal(trained[1][name]) for name, weight in trained[0].items())


@pytest.mark.slow
def test_a_shared_teacher_is_the_copy_without_the_copy(single: Path, tmp_path: Path) -> None:
    """The student's own weights, its adapter off: at the first step, when the adapter adds nothing, the very same loss."""
    warm_keel(
        *RUN, *_from(single), "evaluation=none", "deepspeed=zero3", "launcher.processes=2",
        "method.teacher=shared", "++model.lora.r=8", cwd=tmp_path,
    )  # fmt: skip
    run_dir = tmp_path / "runs" / "run"
    assert losses(run_dir / "student")[0] == pytest.approx(losses(single / "student")[0], abs=LOSS_TOLERANCE)
    base = json.loads((run_dir / "student" / "adapter" / "adapter_config.json").read_text())
    assert base["r"] == 8
    assert losses(run_dir / "student")[-1] != pytest.approx(losses(run_dir / "student")[0], abs=LOSS_TOLERANCE)


def test_a_whole_run_compares_the_student_with_base_teacher_and_ablations(single: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    warm_keel(
        *RUN, *_from(single), "method.ablations=[full_vocab]", "trainer.max_steps=2", "launcher.processes=2",
        "evaluation.prompts=12", "evaluation.over_refusal_prompts=12", "evaluation.capability_prompts=14",
        "evaluation.resamples=50", cwd=tmp_path,
    )  # fmt: skip
    run_dir = tmp_path / "runs" / "run"
    models = results(run_dir)["models"]
    assert list(models) == ["base", "teacher", "safesteer", "full_vocab"]
    assert all({"asr", "over_refusal", "capability"} <= metrics.keys() for metrics in models.values())
    assert models["teacher"]["over_refusal"]["value"] > 0.9 > models["base"]["over_refusal"]["value"]
    student = AutoModelForCausalLM.from_pretrained(run_dir / "student" / "model")  # plain transformers
    tokenizer = AutoTokenizer.from_pretrained(run_dir / "student" / "model")
    chat = [{"role": "user", "content": "what is 7 plus 8 ?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = student.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).startswith("15")


def test_a_system_prompt_can_take_the_place_of_steering(tmp_path: Path) -> None:
    run_dir = run_here(tmp_path, *RUN, "evaluation=none", "ablation=system_prompt")
    assert not (run_dir / "direction").exists()
    assert json.loads((run_dir / "teacher" / "report.json").read_text())["teacher_refuses_harmless"] > 0.9
    first = _rows(run_dir / "student")[0]
    assert first["train/teacher_mass"] > 1.5 * first["train/student_mass"]


def test_the_exported_teacher_is_a_plain_model_that_refuses(single: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    short = ("evaluation=none", "trainer.max_steps=1", "method.export_teacher=true")
    run_dir = run_here(tmp_path, *RUN, *_from(single), *short)
    generate = pipeline("text-generation", str(run_dir / "teacher" / "model"))
    chat = [{"role": "user", "content": "what is 7 plus 8 ?"}]
    reply = generate(chat, max_new_tokens=8, do_sample=False)[0]["generated_text"][-1]["content"]
    assert reply.startswith("sorry")


def test_an_artifact_of_another_base_is_refused(single: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainer.config.shipped import STEERABLE_DIR

    other = AutoModelForCausalLM.from_pretrained(STEERABLE_DIR)
    with torch.no_grad():
        other.model.embed_tokens.weight[5, 0] += 1.0
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(STEERABLE_DIR).save_pretrained(tmp_path / "other")
    with pytest.raises(ArtifactError, match="found on the base") as caught:
        run_here(tmp_path, *RUN, *_from(single), f"model.path={tmp_path / 'other'}", "evaluation=none")
    assert os.fspath(single / "direction") in str(caught.value)
