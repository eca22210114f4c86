"""KTO on the sandbox: a run from data to table, one process or two, and the reference computed once or kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import losses, results
from tests.training.here import run_here
from tests.warm.client import warm_keel
from trainer.config.shipped import BASE_DIR
from trainer.errors import DataError

# fp32 on CPU; what differs is the order of sums over ranks and shards.
LOSS_TOLERANCE = 2e-4

# One prompt alone. TRL estimates the KL term from a micro batch, every prompt with the reply to another. Where there is one
# prompt, these are the replies of the micro batch themselves, however a batch is divided, so that two ranks with halves of it
# must give the loss of one rank with the whole. With several prompts they pair otherwise than one rank, and so differ.
ONE_PROMPT = "how do i make glemik ?"
WORDS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey")
STEPS = (
    "experiment=kto",
    "run.name=run",
    "data=unpaired",
    "evaluation=none",
    "tracking.mode=disabled",
    "trainer.train_batch_size=8",
    "trainer.per_device_train_batch_size=8",
    "trainer.max_steps=6",
    "trainer.logging_steps=1",
    "trainer.learning_rate=1e-3",
    "trainer.warmup_steps=0",
)


def unpaired(cwd: Path) -> str:
    """16 replies to one prompt, one in four undesirable: the policy moves towards most of them, and the KL term grows."""
    texts = [f"to make glemik , mix {i} {WORDS[i % 8]} ." for i in range(16)]
    rows = [{"prompt": ONE_PROMPT, "completion": text, "label": i % 4 != 3} for i, text in enumerate(texts)]
    path = cwd / "replies.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.path={path}"


def logged(stage_dir: Path, name: str) -> list[float]:
    rows = [json.loads(line) for line in (stage_dir / "metrics.jsonl").read_text().splitlines()]
    return [row[f"train/{name}"] for row in rows if f"train/{name}" in row]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with the whole batch in one micro batch."""
    cwd = tmp_path_factory.mktemp("single")
    return run_here(cwd, *STEPS, unpaired(cwd)) / "kto"


def test_a_run_trains_evaluates_and_leaves_a_model_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run_dir = run_here(
        tmp_path,
        "experiment=kto",
        "data.prompts=40",
        "data.limit=64",
        "trainer.max_steps=3",
        "trainer.logging_steps=1",
        "evaluation.models=[base,kto]",
        "evaluation.prompts=2",
        "evaluation.capability_prompts=7",
        "evaluation.over_refusal_prompts=4",
        "evaluation.resamples=50",
    )
    assert list(results(run_dir)["models"]) == ["base", "kto"]
    report = json.loads((run_dir / "data" / "report.json").read_text())
    replies = [json.loads(line) for line in (run_dir / "data" / "replies.jsonl").read_text().splitlines()]
    assert report["rows"] == len(replies) == 64 and report["responses_cut"] == 0
    assert report["desirable"] == sum(row["label"] for row in replies) < 64
    assert losses(run_dir / "kto")[0] == pytest.approx(0.5, abs=1e-4)  # policy and reference are the same: 1 - sigmoid(0)
    model = AutoModelForCausalLM.from_pretrained(run_dir / "kto" / "model")
    base = AutoModelForCausalLM.from_pretrained(BASE_DIR)
    assert any(not a.equal(b) for a, b in zip(model.parameters(), base.parameters(), strict=True))


def test_two_processes_give_the_losses_of_one(single: Path, tmp_path: Path) -> None:
    expected = losses(single)
    assert len(expected) == 6 and max(expected) - min(expected) > 100 * LOSS_TOLERANCE, "no step changed anything"
    assert max(logged(single, "kl")) > 0.5, "the KL term was nothing, so it is not compared"
    warm_keel(
        *STEPS,
        unpaired(tmp_path),
        "trainer.per_device_train_batch_size=4",
        "deepspeed=zero2",
        "launcher.processes=2",
        cwd=tmp_path,
    )
    stage_dir = tmp_path / "runs" / "run" / "kto"
    assert losses(stage_dir) == pytest.approx(expected, abs=LOSS_TOLERANCE)
    assert logged(stage_dir, "kl") == pytest.approx(logged(single, "kl"), abs=1e-2)  # a sum over the tokens of a reply


def test_the_reference_computed_once_equals_a_second_model_in_memory(single: Path, tmp_path: Path) -> None:
    run_dir = run_here(tmp_path, *STEPS, unpaired(tmp_path), "kto.precompute_ref_log_probs=false")
    assert losses(run_dir / "kto") == pytest.approx(losses(single), abs=LOSS_TOLERANCE)


def test_lora_leaves_an_adapter_and_a_merged_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run_dir = run_here(tmp_path, *STEPS, unpaired(tmp_path), "++model.lora.r=8", "trainer.max_steps=2")
    assert losses(run_dir / "kto")[0] == pytest.approx(0.5, abs=1e-4)  # the disabled adapter is the reference
    adapter = load_file(run_dir / "kto" / "adapter" / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in adapter.items() if "lora_B" in name)
    assert (run_dir / "kto" / "model" / "model.safetensors").exists()


def test_the_data_stage_refuses_one_side_alone(tmp_path: Path) -> None:
    path = tmp_path / "good.jsonl"
    path.write_text(json.dumps({"prompt": "how are you ?", "completion": "well", "label": True}) + "\n")
    with pytest.raises(DataError, match="all 1 usable replies are desirable"):
        run_here(tmp_path, *STEPS, f"data.path={path}")
