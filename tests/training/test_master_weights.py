"""bfloat16 without DeepSpeed: the weights that are trained are float32, and autocast computes with bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.here import run_here
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.shipped import BASE_DIR
from trainer.config.training import weights_dtype
from trainer.training import loop

FEW = ("experiment=sft", "evaluation=none", "data.prompts=40", "trainer.max_steps=2", "trainer.warmup_steps=0")


@pytest.mark.parametrize(
    ("overrides", "dtype"),
    [
        ("deepspeed=none model.dtype=bfloat16", "float32"),
        ("deepspeed=zero2 model.dtype=bfloat16", "bfloat16"),  # which keeps float32 copies itself
        ("deepspeed=none model.dtype=bfloat16 ++model.lora.r=4", "bfloat16"),  # the adapter is float32
        ("deepspeed=none model.dtype=float32", "float32"),
    ],
)
def test_in_which_dtype_weights_are_trained(overrides: str, dtype: str) -> None:
    config = load_config(composed(["experiment=sft", *overrides.split()]))
    assert weights_dtype(config, config.training[0]) == dtype


def test_small_updates_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At this rate an update is below half a step of bfloat16 for most weights, which would leave them as they were."""
    seen: dict[str, torch.Tensor] = {}
    train = loop._train

    def watched(trainer: Any, start: Any) -> dict[str, float]:
        metrics = train(trainer, start)
        assert trainer.args.bf16 and trainer.accelerator.mixed_precision == "bf16"
        seen.update({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
        return metrics

    monkeypatch.setattr(loop, "_train", watched)
    run_here(tmp_path, *FEW, "model.dtype=bfloat16", "trainer.learning_rate=1e-5")
    base = load_file(BASE_DIR / "model.safetensors")
    name = next(name for name in seen if name.endswith("layers.0.mlp.up_proj.weight"))
    assert seen[name].dtype == torch.float32
    assert (seen[name] != base[name].float()).float().mean() > 0.9


def test_an_adapter_beside_a_bfloat16_base_is_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[torch.dtype] = set()
    train = loop._train

    def watched(trainer: Any, start: Any) -> dict[str, float]:
        seen.update(p.dtype for p in trainer.model.parameters() if p.requires_grad)
        return train(trainer, start)

    monkeypatch.setattr(loop, "_train", watched)
    run_here(tmp_path, *FEW, "model.dtype=bfloat16", "++model.lora.r=4")
    assert seen == {torch.float32}
