"""Real preference pairs, real chat tokenizers: what a user brings instead of the sandbox. Two ranks, ZeRO-2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import losses
from tests.warm.client import warm_keel

pytestmark = pytest.mark.real_data


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ["minimind", "phi-3-mini"])
def test_sft_then_dpo_on_hh_rlhf(public_data: Path, tmp_path: Path, tokenizer: str) -> None:
    warm_keel(
        "experiment=cosalign",
        "evaluation=none",
        "model=random_llama",
        f"model.tokenizer={public_data / 'tokenizers' / tokenizer}",
        "data=transcripts",
        f"data.path={public_data / 'hh_rlhf' / 'harmless-base_test.jsonl.gz'}",
        "data.limit=120",
        "data.overlong=drop",
        "trainer.max_length=160",
        "trainer.per_device_train_batch_size=4",
        "trainer.train_batch_size=8",
        "trainer.max_steps=8",
        "sft.learning_rate=2e-3",
        "sft.warmup_steps=2",
        "trainer.logging_steps=1",
        "launcher.processes=2",
        "deepspeed=zero2",
        "run.name=hh",
        cwd=tmp_path,
    )
    run_dir = tmp_path / "runs" / "hh"
    report = json.loads((run_dir / "data" / "report.json").read_text())
    assert report["rows"] == 120
    assert report["examples"]["dpo"] + sum(report["left_out"].values()) == 120
    sft = losses(run_dir / "sft")
    assert sft[-1] < sft[0] - 0.2, "SFT on real text must learn"
    assert losses(run_dir / "dpo")[0] == pytest.approx(0.6931, abs=1e-3)

    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = run_dir / "dpo" / "model"
    model, loaded = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    chat = [{"role": "user", "content": "Hello, who are you?"}]
    inputs = loaded.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    inputs.pop("token_type_ids", None)
    assert model.generate(**inputs, max_new_tokens=5, do_sample=False).shape[1] > inputs["input_ids"].shape[1]
