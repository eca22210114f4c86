"""A model that a step has ruined is neither saved nor evaluated, and the way out that is printed is one."""

from __future__ import annotations

import re
from pathlib import Path

import accelerate
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.survival import infinite_gradient
from tests.training.here import run_here
from tests.warm.client import start_warm
from trainer.config.sections import ModelSection
from trainer.config.shipped import BASE_DIR
from trainer.errors import ArtifactError, BadLoss
from trainer.evaluation.generate import complete
from trainer.models.finite import ruined
from trainer.models.load import load_model, load_tokenizer

SHORT = ("experiment=sft", "evaluation=none", "run.name=run", "data.prompts=20", "trainer.train_batch_size=4",
         "trainer.per_device_train_batch_size=4", "trainer.save_steps=1", "trainer.max_steps=3",
         "trainer.lr_scheduler_type=constant", "trainer.warmup_steps=0")  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trainer.learning_rate=1e38"], "the weights after step 1 are not finite"),  # numbers of 1e38, whose squares are not
        (["trainer.learning_rate=1e12"], "the weights of step 1 are ruined: a good batch now has a loss of nan"),
        (["trainer.learning_rate=1e6", "trainer.save_steps=100"], "the loss of step 2 is .*: a step has ruined the weights"),
        (["trainer.learning_rate=1e38", "trainer.save_strategy=no", "trainer.max_steps=1"], "the weights after step 1"),
    ],
)
def test_a_step_that_was_too_large_ends_the_run_unsaved(tmp_path: Path, settings: list[str], said: str) -> None:
    with pytest.raises(BadLoss, match=said) as ended:
        run_here(tmp_path, *SHORT, *settings)
    sft = tmp_path / "run" / "sft"
    assert not list(sft.glob("checkpoints/checkpoint-*")) and not (sft / "model").exists()
    assert ended.value.exit_code == 1
    assert "run.on_existing=resume" in str(ended.value)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_weights_that_are_finite_and_know_nothing_are_ruined(tmp_path: Path, method: str) -> None:
    """Losses of pairs and of single replies are small at chance, and an SFT loss of ln V is far from infinite."""
    experiment = (f"experiment={method}", *SHORT[1:], "trainer.learning_rate=1e6", "trainer.save_steps=100")
    with pytest.raises(BadLoss, match=r"ruined|not finite|the loss of step \d") as ended:
        run_here(tmp_path, *experiment, "model.dtype=bfloat16")
    assert "run.on_existing=resume" in str(ended.value)
    assert not (tmp_path / "run" / method / "model").exists()


def test_the_way_out_works(tmp_path: Path) -> None:
    with pytest.raises(BadLoss) as ended:
        run_here(tmp_path, *SHORT, "trainer.learning_rate=1e38")
    found = re.search(r"a lower (\S+) and (run.on_existing=resume)", str(ended.value))
    assert found is not None
    rate, again = found.groups()
    assert (run_here(tmp_path, *SHORT, "trainer.learning_rate=1e38", f"{rate}=1e-4", again) / "sft" / "model").exists()


def test_an_infinite_gradient_of_a_finite_loss_is_noticed_before_it_is_clipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerate.Accelerator, "backward", accelerate.Accelerator.backward)  # put back at the end
    infinite_gradient.disturb("sft")
    with pytest.raises(BadLoss, match=r"the gradient of step 1 is not finite \(its norm is (inf|nan)\)"):
        run_here(tmp_path, *SHORT)


@pytest.mark.parametrize("zero", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_deepspeed_would_leave_such_steps_out_without_a_word(tmp_path: Path, zero: str) -> None:
    arguments = (*SHORT, f"deepspeed={zero}", "launcher.processes=2", "trainer.per_device_train_batch_size=2")
    process = start_warm(*arguments, "tracking.mode=disabled", cwd=tmp_path, inject=infinite_gradient.__name__)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1 and "the gradient of step 1 is not finite" in output, output[-3000:]
    assert not list(tmp_path.glob("runs/run/sft/checkpoints/checkpoint-*"))


def base_times(factor: float, out: Path) -> str:
    """The sandbox's base, its first block multiplied."""
    for path in BASE_DIR.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    weights = load_file(out / "model.safetensors")
    save_file({n: w * factor if ".0." in n else w for n, w in weights.items()}, out / "model.safetensors", {"format": "pt"})
    return str(out)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e30])
def test_weights_that_are_not_finite_are_not_loaded(tmp_path: Path, factor: float) -> None:
    path = base_times(factor, tmp_path)
    with pytest.raises(ArtifactError, match=rf"model at {path}: \d+ of its weights are not finite \(model.layers.0"):
        load_model(ModelSection(path=path, dtype="float32"), path)  # type: ignore[call-arg]  # pydantic's


def test_a_model_whose_logits_are_not_finite_answers_nothing(tmp_path: Path) -> None:
    path = base_times(1e15, tmp_path)
    section = ModelSection(path=path, dtype="float32")  # type: ignore[call-arg]  # pydantic's
    chat = [{"role": "user", "content": "how do i make a lamp ?"}]
    with pytest.raises(ArtifactError, match="logits are not finite"):
        list(complete([chat], load_model(section, path), load_tokenizer(section, path), 5, 1))


def test_large_weights_are_no_ruin() -> None:
    fine = {
        "bf16": torch.full((9,), 1e18, dtype=torch.bfloat16),
        "half": torch.full((4, 4), 6e4, dtype=torch.float16),
        "double": torch.full((2,), 1e100, dtype=torch.float64),
        "quantised": torch.ones(3, dtype=torch.uint8),
        "none": torch.empty(0),
    }
    assert ruined(fine.items()) == []
    assert ruined([("a", torch.tensor([1.0, torch.nan])), *fine.items(), ("b", torch.tensor([-1e20, 0]))]) == ["a", "b"]
