"""An aligner from config to results, on the sandbox: strengths, alignment that a guardrail asks for, and the DPO baselines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import losses, results
from tests.training.here import run_here
from tests.warm.client import warm_keel
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.shipped import SHIPPED
from trainer.errors import DataError
from trainer.evaluation.generate import complete
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.base import read
from trainer.methods.dsa.inference import AlignedModel, p_unsafe
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer

BASE = str(SHIPPED["sandbox_steerable"])
LOSS_TOLERANCE = 2e-4  # fp32 on CPU; what differs is the order of sums over ranks and shards
REFUSAL = "sorry , i can not help with that ."

ALIGNER = (
    "experiment=dsa",
    "run.name=run",
    "method.baselines=[]",
    "~method.guardrails.rtb",
    "~method.guardrails.lst",
    "method.targeted.guardrail=plr",
    "method.strengths=[0.0,0.5,1.0]",
    "~method.dpo_baselines.full",
    "data.train=320",
    "data.validation=80",
    "data.limit=60",
    "data.preferences.prompts=48",
    "guardrail.train_batch_size=32",
    "guardrail.num_train_epochs=1",
    "dpo.train_batch_size=16",
    "dpo.per_device_train_batch_size=8",
    "dpo.warmup_steps=0",
    "trainer.logging_steps=1",
    "evaluation.prompts=24",
    "evaluation.capability_prompts=14",
    "evaluation.over_refusal_prompts=10",
    "evaluation.resamples=50",
    "tracking.mode=disabled",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(tmp_path_factory.mktemp("whole"), *ALIGNER)


@pytest.fixture(scope="module")
def base() -> Any:
    return load_model(load_config(composed(list(ALIGNER))).model, BASE).eval()


def answers(run_dir: Path) -> dict[str, dict[str, str]]:
    """Model -> prompt -> response."""
    found: dict[str, dict[str, str]] = {}
    for line in (run_dir / "evaluate" / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["model"], {})[row["prompt"]] = row["response"]
    return found


def test_results_compare_every_strength_the_targeted_model_and_the_baselines(whole: Path) -> None:
    models = results(whole)["models"]
    assert list(models) == [
        "base", "lora_dpo", "last_layers_lora_dpo", "guardrail_only", "dsa_lambda_0.0", "dsa_lambda_0.5", "dsa_lambda_1.0",
        "dsa_targeted",
    ]  # fmt: skip
    shared = {"asr", "over_refusal", "capability"}
    assert shared <= models["base"].keys() and "guardrail_auc/plr/seen" in models["base"]
    for label, metrics in models.items():
        assert label == "base" or shared | {"alignment_tax", "safety_gain"} <= metrics.keys(), label
        if label != "base":
            asr, capability = ([models[of][name]["value"] for of in (label, "base")] for name in ("asr", "capability"))
            assert metrics["safety_gain"]["value"] == pytest.approx((asr[1] - asr[0]) / (1 - asr[1]))
            assert metrics["alignment_tax"]["value"] == pytest.approx(1 - capability[0] / capability[1])
    assert (whole / "evaluate" / "strengths.png").stat().st_size > 10_000


def test_the_aligner_answers_otherwise_than_the_base(whole: Path) -> None:
    said = answers(whole)
    assert said["dsa_lambda_1.0"] != said["base"] == said["dsa_lambda_0.0"]


def test_models_can_be_compared_without_the_base(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole.parent, tmp_path, dirs_exist_ok=True)
    run_dir = run_here(tmp_path, *ALIGNER, "evaluation.models=[dsa_targeted]", "run.on_existing=resume")
    models = results(run_dir)["models"]
    assert models["base"].keys() == {name for name in models["base"] if name.startswith("guardrail_")}
    assert "asr" in models["dsa_targeted"] and "safety_gain" not in models["dsa_targeted"]


def test_the_guardrail_decides_prompt_by_prompt_who_answers(whole: Path, base: Any) -> None:
    said = answers(whole)
    tokenizer = load_tokenizer(load_config(composed(list(ALIGNER))).model, BASE)
    guardrail: Any = load(whole / "guardrail_plr", base, base_fingerprint(BASE))
    flagged = {}
    for prompt in said["base"]:
        chat = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")[
            "input_ids"
        ]
        mask = torch.ones_like(ids)
        flagged[prompt] = p_unsafe(guardrail, read(base, ids, mask).hidden_states, mask).item() >= guardrail.tau
    assert 0 < sum(flagged.values()) < len(flagged)
    for prompt, is_flagged in flagged.items():
        assert said["dsa_targeted"][prompt] == said["dsa_lambda_1.0" if is_flagged else "base"][prompt]
        assert said["guardrail_only"][prompt] == (REFUSAL if is_flagged else said["base"][prompt])


def test_the_saved_aligner_gives_the_answers_that_were_measured(whole: Path, base: Any) -> None:
    config = load_config(composed(list(ALIGNER)))
    aligner: Any = load(whole / "dpo_aligner", base, base_fingerprint(BASE))
    assert sum(p.numel() for p in aligner.parameters()) < 0.6 * sum(p.numel() for p in base.parameters())
    expected = list(answers(whole)["dsa_lambda_0.5"].items())[:8]
    chats = [[{"role": "user", "content": prompt}] for prompt, _ in expected]
    model, tokenizer = AlignedModel(base, aligner, strength=0.5), load_tokenizer(config.model, BASE)
    found = dict(row for batch in complete(chats, model, tokenizer, config.generation.max_new_tokens, 8) for row in batch)
    assert [found[index] for index in range(8)] == [answer for _, answer in expected]


def test_lora_in_the_last_layers_leaves_the_others_alone(whole: Path) -> None:
    def adapted(stage: str) -> set[str]:
        names = load_file(whole / stage / "adapter" / "adapter_model.safetensors")
        return {name.split("layers.")[1].split(".")[0] for name in names}

    assert adapted("dpo_lora") == {"0", "1", "2", "3"} and adapted("dpo_last_layers_lora") == {"2", "3"}
    original, merged = (load_file(Path(at) / "model.safetensors") for at in (BASE, whole / "dpo_last_layers_lora" / "model"))
    changed = {name for name in original if not original[name].equal(merged[name])}
    assert changed and all(name.split("layers.")[1][0] in "23" for name in changed)


def test_an_aligner_alone_is_trained_on_pairs_alone(tmp_path: Path) -> None:
    run_dir = run_here(
        tmp_path, "experiment=dpo_mix", "method=dsa", "run.name=run", "+method.aligner={kind: lst, reduction: 4}",
        "data.prompts=32", "trainer.max_steps=1", "evaluation=none", "tracking.mode=disabled",
    )  # fmt: skip
    assert {path.parent.name for path in run_dir.glob("*/manifest.json")} == {"pairs", "dpo_aligner"}
    assert (run_dir / "dpo_aligner" / "adapter.safetensors").exists()


def test_alignment_that_a_guardrail_of_responses_should_ask_for_is_refused_before_training(tmp_path: Path) -> None:
    rows = [{"prompt": f"what is {n} plus 1 ?", "response": f"{n + 1}", "label": n % 2} for n in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:40]))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[40:]))
    own = ("data.format=labelled", f"data.path={tmp_path}/train.jsonl", f"data.tests={{mine: {tmp_path}/test.jsonl}}")
    with pytest.raises(DataError, match=r"method\.targeted: a guardrail judges prompts there, and no training row has a label"):
        run_here(tmp_path / "runs", *ALIGNER, *own, "data.train=20", "data.validation=10")


@pytest.mark.slow
def test_two_processes_with_shards_give_the_result_of_one(whole: Path, tmp_path: Path) -> None:
    of_two = ("guardrail.per_device_train_batch_size=8", "dpo.per_device_train_batch_size=4", "launcher.processes=2")
    warm_keel(*ALIGNER, *of_two, "deepspeed=zero3", cwd=tmp_path)
    for stage in ("guardrail_plr", "dpo_aligner", "dpo_lora", "dpo_last_layers_lora"):
        found = losses(tmp_path / "runs" / "run" / stage)
        assert found == pytest.approx(losses(whole / stage), abs=LOSS_TOLERANCE), stage
    aligned = [load_file(run / "dpo_aligner" / "adapter.safetensors") for run in (whole, tmp_path / "runs" / "run")]
    assert all(torch.allclose(value, aligned[1][name], atol=1e-3) for name, value in aligned[0].items())
