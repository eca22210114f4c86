"""KTO's section: what TRL's KTO refuses is refused before a process starts, and `plan` knows what a step does."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import RunConfig
from trainer.errors import ConfigError
from trainer.methods.kto.check import LOSSES
from trainer.plan.__main__ import main
from trainer.plan.layout import layout_of


def load(*overrides: str) -> RunConfig:
    return load_config(composed(["experiment=kto", *overrides]))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("trainer.per_device_train_batch_size=1",), "kto.per_device_train_batch_size: the KL term is estimated"),
        (("kto.train_sampling_strategy=random",), "kto.train_sampling_strategy: random would break the pairs"),
        (("kto.loss_type=kto_pair",), "kto.loss_type: must be one of kto, apo_zero_unpaired (got 'kto_pair')"),
        (
            ("kto.sync_ref_model=true",),
            "kto.sync_ref_model: the reference changes, and its log-prob",
        ),
        (
            ("kto.sync_ref_model=true", "kto.precompute_ref_log_probs=false", "deepspeed=zero3"),
            "kto.sync_ref_model: the reference is updated from full weights",
        ),
        (("kto.sync_ref_model=true", "model.lora.r=8"), "kto.sync_ref_model: the reference of a LoRA run is the base"),
        (("data=sandbox",), "data.format: method=kto cannot train on sandbox; it needs unpaired replies"),
        (("data=unpaired",), "data.path: data.format=unpaired needs a file"),
        (("data=unpaired", "data.path=./nowhere.jsonl"), "data.path: "),
        (("dpo.beta=0.1",), "dpo: method=kto has no dpo stage"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(overrides: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    (found,) = caught.value.problems
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "overrides",
    [
        ("kto.loss_type=apo_zero_unpaired", "trainer.per_device_train_batch_size=1"),
        ("kto.loss_type=apo_zero_unpaired", "kto.train_sampling_strategy=random"),
        ("kto.sync_ref_model=true", "kto.precompute_ref_log_probs=false"),
    ],
)
def test_what_can_work_is_let_through(overrides: tuple[str, ...]) -> None:
    assert load(*overrides).method.name == "kto"


def test_the_losses_are_those_of_trl() -> None:
    from dataclasses import fields

    from trl import KTOConfig

    (choices,) = (field.metadata["choices"] for field in fields(KTOConfig) if field.name == "loss_type")
    assert set(choices) == set(LOSSES)


@pytest.mark.parametrize(
    ("overrides", "second_model", "forwards"),
    [
        ((), False, 1),  # of the policy, over the mismatched replies
        (("kto.loss_type=apo_zero_unpaired",), False, 0),
        (("kto.precompute_ref_log_probs=false",), True, 3),  # and of the reference, over both
        (("model.lora.r=8",), False, 3),
        (("kto.precompute_ref_log_probs=false", "kto.loss_type=apo_zero_unpaired"), True, 1),
    ],
)
def test_plan_counts_the_passes_of_a_step_and_the_models_in_memory(
    overrides: tuple[str, ...], second_model: bool, forwards: int
) -> None:
    config = load(*overrides)
    layout = layout_of(config, config.training[0])
    assert (layout.sequences, layout.second_model, layout.forwards) == (1, second_model, forwards)


def test_the_experiment_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    config = load()
    examples = config.method.examples(config)["kto"]
    assert main(["experiment=kto"]) == 0
    assert f"{examples:,}" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
