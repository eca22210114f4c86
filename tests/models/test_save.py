"""What a training stage saves is the model that was trained, in files that other programs read alike."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.training.here import run_here
from trainer.config.shipped import BASE_DIR
from trainer.models.save import save_model
from trainer.models.template import stop_tokens
from trainer.training.save import Survival

SFT = ("experiment=sft", "evaluation=none", "data.prompts=40", "trainer.max_steps=2", "trainer.warmup_steps=0")
TOKENS = torch.arange(5, 45)[None]
SIZES: dict[str, Any] = {
    "vocab_size": 436, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
# Model type -> fields of its config, such that defaults in place of them would show.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3},
    "qwen2": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen3": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}, "tie_word_embeddings": True},
    "mistral": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}},
    "gemma2": {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4}, "query_pre_attn_scalar": 8},
    "gemma3_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 3e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 16,
    },
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5}},
    "phi": {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5}},
    "stablelm": {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5}},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


def made(family: str) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 436, "initializer_range": 0.3, "bos_token_id": 2, "eos_token_id": 3} if family == "gpt2" else SIZES
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **{**sizes, **FAMILIES[family]}), attn_implementation="eager"
    ).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


# ------------------------------------------------------------------------------------------------------- LoRA, tied weights
@pytest.mark.parametrize("lora", ["target_modules=[q_proj,embed_tokens]", "modules_to_save=[embed_tokens]"])
def test_an_adapter_on_tied_embeddings_is_merged_into_the_model_that_was_trained(lora: str, tmp_path: Path) -> None:
    run_dir = run_here(tmp_path, *SFT, "trainer.learning_rate=5e-2", f"++model.lora.{lora}", "++model.lora.r=4")
    base = AutoModelForCausalLM.from_pretrained(BASE_DIR)
    before = logits(base)
    trained = logits(PeftModel.from_pretrained(base, run_dir / "sft" / "adapter").eval())
    saved = AutoModelForCausalLM.from_pretrained(run_dir / "sft" / "model")
    assert torch.allclose(logits(saved), trained, atol=1e-4)
    assert (trained - before).abs().max() > 1e-2, "nothing was trained, so nothing is compared"
    assert not saved.config.tie_word_embeddings
    assert not [path for path in run_dir.rglob("*.bin") if "checkpoints" not in path.parts], "pickles"


# ----------------------------------------------------------------------------------------------------- what bfloat16 keeps
def test_survival_is_what_each_rounded_weight_keeps_of_its_update() -> None:
    """One step of bfloat16's grid at 1 is 2**-7: an update of a quarter of it is lost, of three quarters it is kept."""
    step, survival = 2**-7, Survival()
    before = torch.ones(4)
    exact = before + torch.tensor([0.25, 0.75, -1.0, 0.0]) * step
    survival.add(before, exact, exact.bfloat16())
    assert survival.kept / survival.updated == pytest.approx(1.75 / 2.0)
    assert (survival.changed, survival.moved) == (3, 2)
    between = Survival()  # the points of the grid: what rounding does to the base is no update
    between.add(before + 0.2 * step, before + 0.3 * step, (before + 0.3 * step).bfloat16())
    assert (between.kept, between.changed, between.moved) == (0.0, 4, 0)


def test_small_updates_are_lost_in_bfloat16_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = run_here(tmp_path, *SFT, "trainer.learning_rate=1e-6", "model.save_dtype=bfloat16")
    said = capsys.readouterr()
    assert re.search(
        r"sft · saved in bfloat16: \d% of the float32 update survives, \d% of the weights that it changed", said.out
    )
    assert "model.save_dtype=float32 keeps it" in said.err
    saved = AutoModelForCausalLM.from_pretrained(run_dir / "sft" / "model", dtype="auto")
    assert saved.dtype == torch.bfloat16


# --------------------------------------------------------------------------------------------------------- other programs
def test_a_saved_model_uses_its_cache_and_ends_its_turns(tmp_path: Path) -> None:
    model, tokenizer = made("llama"), AutoTokenizer.from_pretrained(BASE_DIR)
    tokenizer.eos_token = "<|pad|>"
    model.config.use_cache = model.generation_config.use_cache = False
    model.generation_config.temperature = 0.5  # published so, and refused by `save_pretrained` unless it samples
    save_model(model, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.use_cache
    assert loaded.generation_config.use_cache
    assert loaded.generation_config.eos_token_id == [0, 3] == stop_tokens(model, tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_for_transformers_4_change_nothing_for_5(family: str, tmp_path: Path) -> None:
    model, tokenizer = made(family), AutoTokenizer.from_pretrained(BASE_DIR)
    save_model(model, tokenizer, tmp_path)
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()), logits(model)
    )


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["sandbox", "minimind", "phi-3-mini"])
def test_a_tokenizer_is_the_same_once_saved(name: str, public_data: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR if name == "sandbox" else public_data / "tokenizers" / name)
    save_model(made("llama"), tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "make <|end|> red 12 ways.\n\n<|user|> it's"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert set(again.all_special_tokens) == set(tokenizer.all_special_tokens)
    chat = [{"role": "user", "content": "make red"}]
    assert again.apply_chat_template(chat, tokenize=False) == tokenizer.apply_chat_template(chat, tokenize=False)


READS = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
assert transformers.__version__.startswith("4.57."), transformers.__version__
found = {}
for path in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "make red"}], add_generation_prompt=True)
    with torch.no_grad():
        found[path] = [chat, model(torch.arange(5, 45)[None]).logits[0, -1].tolist(), str(model.config.dtype)]
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def transformers_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transformers 4.57 and what it needs in older versions, to stand before what is installed."""
    target = tmp_path_factory.mktemp("transformers4")
    wanted = ("transformers==4.57.*", "huggingface_hub==0.36.*", "tokenizers==0.22.*")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"transformers 4.57 cannot be had here: {done.stderr[-300:]}")
    return target


@pytest.mark.slow
def test_transformers_4_reads_the_same_model_and_tokenizer(transformers_4: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
    expected = {}
    for family in FAMILIES:
        model = made(family)
        path = tmp_path / family
        save_model(model, tokenizer, path, {name: value.detach() for name, value in model.named_parameters()})
        chat = tokenizer.apply_chat_template([{"role": "user", "content": "make red"}], add_generation_prompt=True)
        expected[str(path)] = (chat["input_ids"], logits(model)[0, -1])
    environment = {**os.environ, "PYTHONPATH": str(transformers_4), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READS, *expected], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = json.loads(done.stdout)
    for path, (chat, values) in expected.items():
        assert found[path][0] == chat, path
        torch.testing.assert_close(
            torch.tensor(found[path][1]), values, rtol=1e-4, atol=1e-5, msg=lambda m, p=path: f"{p}: {m}"
        )
        assert found[path][2] == "torch.float32"
