"""The same experiment under ZeRO 0 to 3, on one process and on two: the same losses, the same model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import losses
from tests.warm.client import warm_keel

# fp32 on CPU; what differs is the order of sums over ranks and shards.
LOSS_TOLERANCE = 2e-4

ARGUMENTS = (
    "experiment=cosalign",
    "evaluation=none",
    "data.prompts=150",
    "trainer.max_steps=6",
    "sft.learning_rate=5e-4",  # fast enough that a wrong update would show in the next loss
    "sft.warmup_steps=1",
    "dpo.learning_rate=2e-4",
    "dpo.warmup_steps=1",
    "trainer.logging_steps=1",
    "tracking.mode=disabled",
)
FAST = [("zero2", 2), ("zero3", 2), ("zero3", 1)]
SLOW = [
    ("none", 2),
    ("zero0", 2),
    ("zero1", 2),
    ("zero3_offload", 2),
    ("zero2_offload", 1),
]
PROMPTS = ("how do i make glemik ?", "what colour is sirok ?", "what is 7 plus 8 ?")


def _train(cwd: Path, *overrides: str) -> Path:
    warm_keel(*ARGUMENTS, *overrides, cwd=cwd)
    return cwd / "runs" / "cosalign"


def _texts(model_dir: Path) -> list[str]:
    """Greedy answers of the saved model, in plain transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_dir), AutoTokenizer.from_pretrained(model_dir)
    texts = []
    for prompt in PROMPTS:
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        texts.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :]))
    return texts


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, no DeepSpeed."""
    return _train(tmp_path_factory.mktemp("single"), "deepspeed=none", "launcher.processes=1")


@pytest.mark.parametrize(("deepspeed", "processes"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_distributed_equals_single_process(single: Path, tmp_path: Path, deepspeed: str, processes: int) -> None:
    if "offload" in deepspeed and shutil.which("c++") is None:
        pytest.skip("DeepSpeed's CPU Adam is compiled at its first use, and there is no C++ compiler")
    run_dir = _train(tmp_path, f"deepspeed={deepspeed}", f"launcher.processes={processes}")
    for stage in ("sft", "dpo"):
        expected = losses(single / stage)
        assert len(expected) == 6
        assert abs(expected[-1] - expected[0]) > 100 * LOSS_TOLERANCE, "nothing was learned, so nothing is compared"
        assert losses(run_dir / stage) == pytest.approx(expected, abs=LOSS_TOLERANCE), stage
    assert _texts(run_dir / "dpo" / "model") == _texts(single / "dpo" / "model")


def test_the_reference_computed_once_equals_a_second_model_in_memory(single: Path, tmp_path: Path) -> None:
    run_dir = _train(tmp_path, "deepspeed=none", "launcher.processes=1", "dpo.precompute_ref_log_probs=false")
    assert losses(run_dir / "dpo") == pytest.approx(losses(single / "dpo"), abs=LOSS_TOLERANCE)


@pytest.mark.parametrize("deepspeed", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_lora_trains_an_adapter_and_saves_a_merged_model(tmp_path: Path, deepspeed: str) -> None:
    from safetensors.torch import load_file

    run_dir = _train(tmp_path, f"deepspeed={deepspeed}", "launcher.processes=2", "++model.lora.r=8")
    for stage in ("sft", "dpo"):
        adapter = load_file(run_dir / stage / "adapter" / "adapter_model.safetensors")
        assert {p.shape[0] for name, p in adapter.items() if "lora_A" in name} == {8}
    assert losses(run_dir / "dpo")[0] == pytest.approx(0.6931, abs=1e-3)  # the disabled adapter is the reference
    base, merged = (load_file(run_dir / stage / "model" / "model.safetensors") for stage in ("sft", "dpo"))
    changed = [name for name in base if not base[name].equal(merged[name])]
    assert changed, "the merged model does not contain the adapter"
    assert all("proj" in name for name in changed), "LoRA touched weights it should not"
    assert len(_texts(run_dir / "dpo" / "model")) == len(PROMPTS)


@pytest.mark.slow
def test_bf16_is_near_fp32(single: Path, tmp_path: Path) -> None:
    run_dir = _train(tmp_path, "deepspeed=zero2", "launcher.processes=2", "model.dtype=bfloat16")
    assert losses(run_dir / "sft") == pytest.approx(losses(single / "sft"), abs=0.05)
