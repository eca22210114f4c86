"""A revision of a hub model, and weights in four bits: what is asked of the libraries, and what is refused before that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.errors import ConfigError
from trainer.models.load import quantization
from trainer.pipeline import places

HUB = ("experiment=paper/cosalign", "evaluation=none", "judge=exact", "launcher.processes=8")
FOUR_BITS = "++model.quantization={load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: bfloat16}"


def test_a_revision_is_the_snapshot_of_that_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def snapshot(name: str, revision: str, **_: Any) -> str:
        asked.append((name, revision))
        return "/cache/snapshots/abc"

    monkeypatch.setattr(places, "snapshot_download", snapshot)
    config = load_config(composed([*HUB, "model.revision=abc"]))
    assert places.base_model_path(config, tmp_path) == "/cache/snapshots/abc"
    assert asked == [("meta-llama/Llama-3.1-8B-Instruct", "abc")]


def test_a_revision_that_is_not_here_is_an_error_of_the_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = load_config(composed([*HUB, "model.revision=abc"]))
    with pytest.raises(ConfigError, match=r"model\.revision: meta-llama/Llama-3.1-8B-Instruct at abc is not in the cache"):
        places.base_model_path(config, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["experiment=sft", "model.revision=abc"], "model.revision: only models of the hub have revisions"),
        ([*HUB, FOUR_BITS], "model.quantization: such weights are not trained; set model.lora"),
        ([*HUB, FOUR_BITS, "++model.lora.r=8"], "model.quantization: quantised weights cannot be sharded by ZeRO-3"),
        ([*HUB, "++model.quantization={load_in_4bits: true}"], "model.quantization.load_in_4bits: unknown key; did you mean"),
        ([*HUB, "++model.quantization={}"], "model.quantization: says nothing of bits"),
        (["experiment=sft", "launcher=slurm_cpu", FOUR_BITS, "++model.lora.r=8"], "model.quantization: needs a GPU"),
    ],
)
def test_what_cannot_work_is_said_before_a_process_starts(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(composed(overrides))
    assert any(problem.startswith(said) for problem in caught.value.problems), caught.value.problems


def test_four_bits_are_asked_of_transformers_in_its_own_words() -> None:
    config = load_config(composed([*HUB, "deepspeed=zero2", FOUR_BITS, "++model.lora.r=8"]))
    made = quantization(config.model)
    assert made.load_in_4bit and made.bnb_4bit_quant_type == "nf4" and made.bnb_4bit_compute_dtype == torch.bfloat16
    assert quantization(load_config(composed(["experiment=sft"])).model) is None
