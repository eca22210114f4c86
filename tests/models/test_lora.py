"""LoRA under PEFT's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from tests.training.here import run_here
from trainer.config.lora import lora_config, lora_problems
from trainer.config.shipped import BASE_DIR


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rank": 8}, "lora.rank: unknown field of LoraConfig"),
        ({"use_dra": True}, "lora.use_dra: unknown field of LoraConfig; did you mean use_dora"),
        ({"r": 0}, "lora.r: must be a positive integer (got 0)"),
        ({"lora_dropout": 1.0}, "lora.lora_dropout: must be at least 0 and below 1"),
        ({"lora_alpha": "high"}, "lora.lora_alpha: "),
        ({"bias": "all"}, "lora.bias: trains biases of the base"),
        ({"init_lora_weights": "pissa"}, "lora.init_lora_weights: 'pissa' changes the base or needs data"),
        ({"task_type": "SEQ_CLS"}, "lora.task_type: is set by this project"),
        ({"eva_config": {}}, "lora.eva_config: is set by nothing"),
    ],
)
def test_what_cannot_be_is_named(fields: dict[str, Any], said: str) -> None:
    (problem,) = lora_problems("lora", fields)
    assert problem.startswith(said)


def test_defaults_are_pefts_but_for_the_modules() -> None:
    made, theirs = lora_config({}), LoraConfig()
    assert made.target_modules == "all-linear"
    assert (made.r, made.lora_alpha, made.lora_dropout) == (theirs.r, theirs.lora_alpha, theirs.lora_dropout)


def test_dora_with_ranks_of_its_own_for_some_modules_is_trained_and_merged(tmp_path: Path) -> None:
    run_dir = run_here(
        tmp_path, "experiment=sft", "evaluation=none", "data.prompts=40", "trainer.max_steps=2", "trainer.learning_rate=1e-2",
        "trainer.warmup_steps=0", "++model.lora.use_dora=true", "++model.lora.use_rslora=true", "++model.lora.r=4",
        "++model.lora.lora_alpha=8", "++model.lora.rank_pattern={q_proj: 2}",
    )  # fmt: skip
    adapter, merged = run_dir / "sft" / "adapter", AutoModelForCausalLM.from_pretrained(run_dir / "sft" / "model")
    kept = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE_DIR), adapter).eval()
    assert kept.peft_config["default"].use_dora
    ranks = {p.shape[0] for name, p in kept.named_parameters() if "lora_A" in name and "q_proj" in name}
    assert ranks == {2}
    ids = torch.arange(5, 25)[None]
    base = AutoModelForCausalLM.from_pretrained(BASE_DIR)
    with torch.no_grad():
        expected, found, before = kept(ids).logits, merged(ids).logits, base(ids).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert merged.config.tie_word_embeddings, "the adapter left the embeddings alone"
    assert (found - before).abs().max() > 1e-2, "nothing was trained, so nothing is compared"
