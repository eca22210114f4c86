"""What counts as a bad loss, and what happens to its gradient."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.config.sections import SurvivalSection
from trainer.config.stage import Stage, Training
from trainer.errors import BadLoss
from trainer.pipeline.context import StageContext
from trainer.training.loss_guard import LossGuard


class Words:
    """Stands for a tokenizer."""

    def batch_decode(self, ids: torch.Tensor) -> list[str]:
        return [" ".join(str(int(i)) for i in row) for row in ids]


class TrainerOfLosses:
    """Stands for Trainer: its loss is the batch's value times one weight."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.model.weight)
        self.state = type("State", (), {"global_step": 0})()

    def compute_loss(self, model: Any, inputs: dict[str, Any], **_: Any) -> torch.Tensor:
        self.ids = inputs.pop("input_ids", None)  # as TRL's trainers may
        return model.weight.sum() * inputs["value"]

    def gradient_of(self, value: float) -> float:
        self.model.zero_grad()
        loss = self.compute_loss(self.model, {"input_ids": torch.tensor([[7, 8]]), "value": torch.tensor(value)})
        loss.backward()
        assert self.model.weight.grad is not None
        return float(self.model.weight.grad)


def guarded(tmp_path: Path, **settings: Any) -> tuple[TrainerOfLosses, LossGuard]:
    (tmp_path / "sft").mkdir()
    stage = Stage("sft", "", training=Training("sft", "sft"))
    config: Any = SimpleNamespace(trainer={})
    context = StageContext(config, tmp_path, stage, rank=0, world_size=1)
    trainer, guard = TrainerOfLosses(), LossGuard(context, SurvivalSection(**settings), Words())
    guard.attach(trainer)
    return trainer, guard


def test_a_skipped_batch_has_no_gradient_and_is_written_down(tmp_path: Path) -> None:
    trainer, guard = guarded(tmp_path, bad_loss="skip")
    assert trainer.gradient_of(2.0) == 2.0
    assert trainer.gradient_of(float("nan")) == 0.0
    assert guard.skipped == 1
    record = json.loads((tmp_path / "sft" / "bad_batches" / "step1-rank0.json").read_text())
    assert record == {"step": 1, "loss": "nan", "texts": ["7 8"]}
    assert (tmp_path / "sft" / "bad_batches" / "step1-rank0.safetensors").exists()
    assert trainer.gradient_of(3.0) == 3.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_stopping_is_the_default(tmp_path: Path, value: float) -> None:
    trainer, _ = guarded(tmp_path)
    trainer.gradient_of(2.0)
    with pytest.raises(BadLoss, match=r"the loss of step 1 is (nan|inf) on rank 0.*survival.bad_loss=skip"):
        trainer.gradient_of(value)


def test_a_first_batch_that_is_bad_cannot_be_skipped(tmp_path: Path) -> None:
    trainer, _ = guarded(tmp_path, bad_loss="skip")
    with pytest.raises(BadLoss, match=f"the first batch .* delete {tmp_path / 'sft'}"):
        trainer.gradient_of(float("nan"))


def test_an_explosion_is_measured_from_the_highest_running_median(tmp_path: Path) -> None:
    trainer, guard = guarded(tmp_path, bad_loss="skip", explosion=5.0)
    assert trainer.gradient_of(50.0) == 50.0, "there is nothing to compare the first losses with"
    for _ in range(20):
        trainer.gradient_of(3.0)
    for _ in range(20):
        trainer.gradient_of(0.1)
    assert trainer.gradient_of(17.9) == pytest.approx(17.9)
    assert trainer.gradient_of(18.1) == 0.0
    assert guard.skipped == 1


@pytest.mark.parametrize(("usual", "healthy", "exploded"), [(2500.0, 2600.0, 15001.0), (0.02, 5.0, 5.1), (-9.0, 35.0, 37.0)])
def test_an_explosion_has_the_size_of_the_loss(tmp_path: Path, usual: float, healthy: float, exploded: float) -> None:
    """IPO and SPPO are squares around 1 / (2 beta): hundreds and thousands, and no nats."""
    trainer, guard = guarded(tmp_path, bad_loss="skip")
    for _ in range(20):
        trainer.gradient_of(usual)
    assert trainer.gradient_of(healthy) == pytest.approx(healthy)
    assert trainer.gradient_of(exploded) == 0.0
    assert guard.skipped == 1


def test_where_a_step_has_ruined_the_weights_skipping_is_no_way_out(tmp_path: Path) -> None:
    trainer, _ = guarded(tmp_path, bad_loss="skip")
    trainer.gradient_of(2.0)
    torch.nn.init.constant_(trainer.model.weight, float("nan"))
    with pytest.raises(
        BadLoss, match=r"a step has ruined the weights. .* lower sft.learning_rate .* run.on_existing=resume"
    ) as ended:
        trainer.gradient_of(2.0)
    assert "bad_loss=skip" not in str(ended.value)


def test_an_explosion_may_be_declared_healthy(tmp_path: Path) -> None:
    trainer, _ = guarded(tmp_path)
    for _ in range(20):
        trainer.gradient_of(0.1)
    with pytest.raises(BadLoss, match=r"survival.explosion=null where such losses are healthy"):
        trainer.gradient_of(9.0)


def test_asking_for_the_loss_as_it_is_now_leaves_no_trace(tmp_path: Path) -> None:
    trainer, guard = guarded(tmp_path)
    assert guard.loss_now() is None, "there was no batch"
    trainer.gradient_of(2.0)
    gradient, state = trainer.model.weight.grad, torch.get_rng_state()
    torch.nn.init.constant_(trainer.model.weight, 3.0)
    assert guard.loss_now() == 6.0
    assert trainer.model.training and trainer.model.weight.grad is gradient and torch.equal(torch.get_rng_state(), state)


def test_explosions_may_be_allowed(tmp_path: Path) -> None:
    trainer, guard = guarded(tmp_path, explosion=None)
    for _ in range(20):
        trainer.gradient_of(0.1)
    assert trainer.gradient_of(1e6) == 1e6
    assert guard.skipped == 0


def test_a_bad_batch_of_samples_is_shown_as_prompt_and_completion(tmp_path: Path) -> None:
    trainer, _ = guarded(tmp_path, bad_loss="skip")
    trainer.gradient_of(2.0)
    sampled = {"prompt_ids": torch.tensor([[7, 8]]), "completion_ids": torch.tensor([[9]]), "value": torch.tensor(float("nan"))}
    trainer.compute_loss(trainer.model, sampled)
    record = json.loads((tmp_path / "sft" / "bad_batches" / "step1-rank0.json").read_text())
    assert record["texts"] == ["7 8 9"]
