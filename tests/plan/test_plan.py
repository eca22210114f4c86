"""The command, its verdicts and its advice, on the configs that ship."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import losses
from tests.launchers.slurm_config import scripts_of
from tests.warm.client import warm_keel
from trainer.compose import composed
from trainer.config.devices import DEVICES, FRAGMENTATION, GIB, Device, usable
from trainer.config.load import load_config
from trainer.config.run import RunConfig, to_mapping
from trainer.config.sections import Gpu
from trainer.config.training import accumulation_steps
from trainer.errors import ConfigError
from trainer.plan.__main__ import main
from trainer.plan.advice import smallest_change
from trainer.plan.differences import differences
from trainer.plan.disk import disk_of
from trainer.plan.layout import layout_of
from trainer.plan.plan import make_plan
from trainer.plan.schedule import flops_per_token
from trainer.plan.shape import shape_of

PAPER = (
    "experiment=paper/cosalign", "launcher=slurm", "launcher.nodes=2", "launcher.gpus_per_node=8", "deepspeed=zero3",
)  # fmt: skip
TRAIN_ONLY = ("evaluation=none", "judge=exact")
SAFESTEER = ("experiment=paper/safesteer", *TRAIN_ONLY, "launcher.processes=8")


def config_of(*overrides: str) -> RunConfig:
    return load_config(composed(overrides))


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("llama31_8b", 8_030_261_248), ("llama32_3b", 3_212_749_824), ("qwen3_4b", 4_022_468_096)],
)
def test_shipped_shapes_have_the_published_number_of_parameters(model: str, parameters: int) -> None:
    values: dict[str, Any] = composed([f"model={model}", "data=cosalign", *TRAIN_ONLY])
    assert shape_of(load_config(values).model).parameters == parameters


def test_the_papers_run_on_two_nodes_without_weights_data_or_a_hub(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(PAPER)
    shown = capsys.readouterr()
    assert code == 2 and "judge.path:" in shown.err  # it could not start as it is
    assert "8,030,261,248 parameters" in shown.out
    assert shown.out.count("32 = 1 x 2 x 16") == 2
    assert "Not on this machine" in shown.out and "model.path: meta-llama/Llama-3.1-8B-Instruct" in shown.out
    values = composed([*PAPER, *TRAIN_ONLY])
    (script,) = scripts_of(load_config(values), Path("runs/paper-cosalign").absolute()).values()
    assert script.rstrip() in shown.out
    assert max(len(line) for line in shown.out.splitlines() if "/" not in line) <= 100
    assert not list(somewhere.iterdir())


def test_a_wrong_config_is_refused_with_every_problem_and_what_would_do(
    somewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PAPER, "launcher.nodes=3", "trainer.max_lenght=512", "evaluation.pth=x"]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    for expected in ("trainer.max_lenght", "evaluation.pth", "train_batch_size=32 does not divide into 24 processes"):
        assert expected in shown.err
    assert main([*PAPER, "launcher.nodes=4", "trainer.per_device_train_batch_size=2"]) == 2
    assert "per_device_train_batch_size can be 1." in capsys.readouterr().err
    assert main(["model=no_such_model"]) == 2


def test_the_sandbox_fits_on_this_machine_and_its_steps_are_counted(
    somewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment=cosalign", "data.prompts=40", "launcher.processes=2"]) == 0
    shown = capsys.readouterr().out
    assert "unknown" not in shown.split("seconds per step")[0] and "sbatch" not in shown


def test_a_presets_shape_is_not_that_of_another_model(somewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"405B is not on .* \(model\.shape is that of meta-llama/Llama-3\.1-8B-Instruct\)"):
        make_plan(config_of(*PAPER, *TRAIN_ONLY, "model.path=meta-llama/Llama-3.1-405B"))


def test_a_sweep_is_checked_as_a_whole(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "experiment=sft", "evaluation=none", "seed=0,1", "trainer.max_grad_norm=1,2"]) == 0
    shown = capsys.readouterr().out
    assert "4 runs:" in shown and "  seed=1,trainer.max_grad_norm=2" in shown
    assert main(["-m", "experiment=sft", "evaluation=none", "trainer.max_length=64,x"]) == 2
    assert "(at trainer.max_length=x)" in capsys.readouterr().err


def test_a_hub_model_without_a_shape_says_what_to_give(somewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.shape: .*config\.json"):
        make_plan(config_of(*PAPER, *TRAIN_ONLY, "model.path=some/model", "model.shape=null"))


def test_what_does_not_fit_gets_a_change_that_does(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    too_large = [
        *PAPER,
        *TRAIN_ONLY,
        "deepspeed=zero2",
        "launcher.gpu=A100-40GB",
        "launcher.nodes=1",
        "launcher.gpus_per_node=4",
    ]
    assert main(too_large) == 2
    shown = capsys.readouterr().out
    assert "does not fit" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("The smallest change that fits:")]
    changed = config_of(*too_large, *line.split(":")[1].split())
    assert not make_plan(changed).too_large


def test_the_smallest_change_is_the_first_that_suffices() -> None:
    one_node = (*PAPER, *TRAIN_ONLY, "launcher.nodes=1", "trainer.gradient_checkpointing=false")
    config = config_of(*one_node, "trainer.train_batch_size=128", "trainer.per_device_train_batch_size=16")
    device = DEVICES["A100-80GB"]
    assert any(s.memory.peak > usable(device) for s in make_plan(config).stages)
    change = smallest_change(config, device)
    assert change is not None and change.overrides[0].startswith("trainer.per_device_train_batch_size=")
    assert len(change.overrides) == 1
    sft = config.training[0]
    assert accumulation_steps(change.config, sft, 8) > accumulation_steps(config, sft, 8)
    tiny = replace(device, memory=3.0)
    assert smallest_change(config, tiny) is None


def test_devices_are_those_that_the_schema_names() -> None:
    assert set(DEVICES) == set(Gpu.__args__)  # type: ignore[attr-defined]


def test_only_what_differs_from_the_defaults_is_listed() -> None:
    rows = {row.key: row for row in differences(config_of("experiment=cosalign", "dpo.beta=0.3", "tracking.mode=offline"))}
    assert rows["dpo.beta"].value == "0.3" and rows["dpo.beta"].default == "0.1"
    assert "tracking.mode" not in rows and "seed" not in rows and "model.shape" not in rows
    assert "seed" in {row.key for row in differences(config_of("experiment=cosalign", "seed=3"))}


def test_a_shape_changes_no_fingerprint() -> None:
    from trainer.pipeline.chain import chain

    plain = config_of("experiment=cosalign")
    values = to_mapping(plain)
    values["model"]["shape"] = {"model_type": "llama"}
    assert [s.settings for s in chain(load_config(values))] == [s.settings for s in chain(plain)]


def test_training_takes_six_operations_a_weight_and_token_and_more_where_it_does_more() -> None:
    config = config_of(*PAPER, *TRAIN_ONLY)
    shape, layout = shape_of(config.model), layout_of(config, config.training[0])
    plain = flops_per_token(shape, replace(layout, checkpointing=False, length=1))
    multiplied = shape.parameters - shape.vocabulary * shape.hidden
    assert plain == pytest.approx(6 * multiplied, rel=1e-3)
    assert flops_per_token(shape, replace(layout, checkpointing=True, length=1)) == pytest.approx(plain * 4 / 3)
    assert flops_per_token(shape, replace(layout, checkpointing=False, forwards=2, length=1)) == pytest.approx(plain * 5 / 3)


@pytest.mark.parametrize(
    ("overrides", "second_model", "forwards"),
    [
        ((), False, 0),  # the reference's log-probabilities are computed once, before training
        (("dpo.precompute_ref_log_probs=false",), True, 1),
        (("model.lora.r=8",), False, 1),  # the model with its adapter disabled
        (("model.lora.r=8", "dpo.precompute_ref_log_probs=true"), False, 0),
    ],
)
def test_a_reference_takes_a_forward_pass_where_it_was_not_computed_before(
    overrides: tuple[str, ...], second_model: bool, forwards: int
) -> None:
    config = config_of("experiment=dpo", *(f"++{override}" for override in overrides))
    layout = layout_of(config, config.training[0])
    assert (layout.second_model, layout.forwards) == (second_model, forwards)


def test_the_signal_lead_is_compared_with_a_step_and_a_save(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on_gpus = (*PAPER, *TRAIN_ONLY, "launcher.gpu=H100-80GB")
    main([*on_gpus, "launcher.signal_lead=20"])
    shown = capsys.readouterr().out
    assert "does not cover" in shown
    (line,) = [part for part in shown.split() if part.startswith("launcher.signal_lead=")]
    main([*on_gpus, line])
    assert "covers one step and one save" in capsys.readouterr().out


def test_ablations_that_are_alike_share_a_table(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment=safesteer", "method.ablations=[full_vocab,forward_kl]"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Memory per ") == 1 and "in each of 3 on_policy stages" in shown
    disk = make_plan(config_of("experiment=safesteer", "method.ablations=[full_vocab,forward_kl]")).disk_needed
    assert disk == pytest.approx(3 * make_plan(config_of("experiment=safesteer", "method.ablations=[]")).disk_needed)


def test_a_distillation_has_the_length_of_prompt_and_completion_and_leaves_out_what_fills_no_step() -> None:
    config = config_of(*SAFESTEER, "data.limit=101", "data.max_prompt_length=100", "on_policy.max_completion_length=60")
    (stage,) = make_plan(config).stages
    assert stage.layout.length == 160 and stage.layout.rollout is not None and stage.layout.rollout.completion == 60
    assert stage.schedule.steps == 101 * 8 // 32


def test_only_the_loss_over_the_whole_vocabulary_needs_a_third_tile() -> None:
    overrides = ("method.ablations=[full_vocab,forward_kl,renormalised,random_tokens]", "experiment=safesteer")
    for loss, expected in (("slice", [2, 3, 2, 2, 2]), ("full", [3, 3, 2, 2, 3])):
        stages = make_plan(config_of(*overrides, f"method.loss={loss}")).stages
        assert [stage.layout.rollout.tiles for stage in stages if stage.layout.rollout] == expected


def test_time_to_sample_is_that_of_reading_the_weights_once_a_token() -> None:
    (stage,) = make_plan(config_of(*SAFESTEER, "launcher.gpu=A100-80GB")).stages
    schedule, shape = stage.schedule, shape_of(config_of(*SAFESTEER).model)
    assert schedule.sampling_seconds == pytest.approx(512 * 2 * shape.parameters / 2.039e12)
    assert schedule.step_seconds is not None and schedule.sampling_seconds < schedule.step_seconds


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_a_gpu_too_small_for_a_distillation_is_named_with_what_would_do(
    zero: str, somewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    too_large = [
        *SAFESTEER,
        f"deepspeed={zero}",
        "launcher.gpu=A100-40GB",
        "launcher.processes=2",
        "method.ablations=[full_vocab]",
    ]
    assert main(too_large) == 2
    shown = capsys.readouterr().out
    assert "does not fit A100-40GB" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("The smallest change that fits:")]
    assert not make_plan(config_of(*too_large, *line.split(":")[1].split())).too_large


def with_room_for(size: float) -> Device:
    device = DEVICES["A100-80GB"]
    return replace(device, memory=device.memory - (usable(device) - size) / (1 - FRAGMENTATION) / GIB)


def test_an_adapter_run_is_first_told_to_share_its_weights_with_the_teacher() -> None:
    config = config_of(*SAFESTEER, "model.lora.r=16", "deepspeed=zero2", "method.teacher=copy")
    change = smallest_change(config, with_room_for(12 * GIB))  # two models would not fit, one does
    assert change is not None and change.overrides == ("method.teacher=shared",)


def test_where_sampling_decides_the_peak_it_is_told_to_leave_the_weights_in_shards() -> None:
    config = config_of(*SAFESTEER, "trainer.per_device_train_batch_size=1")
    (stage,) = make_plan(config).stages
    assert stage.memory.peak_moment == "rollout"
    change = smallest_change(config, with_room_for(stage.memory.peak - GIB))
    assert change is not None and change.overrides == ("on_policy.ds3_gather_for_generation=false",)


@pytest.mark.parametrize("zero", ["zero2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero3", "none"))])
def test_steps_and_checkpoint_bytes_are_those_of_a_real_run(zero: str, tmp_path: Path) -> None:
    overrides = (
        "experiment=sft", f"deepspeed={zero}", "launcher.processes=2", "data.prompts=20", "evaluation=none",
        "trainer.save_steps=2", "trainer.logging_steps=1", "tracking.mode=disabled", "run.name=real",
    )  # fmt: skip
    warm_keel(*overrides, cwd=tmp_path)
    config = config_of(*overrides)
    (stage,) = make_plan(config).stages
    assert stage.schedule.steps == len(losses(tmp_path / "runs/real/sft"))
    assert stage.schedule.examples == json.loads((tmp_path / "runs/real/data/report.json").read_text())["examples"]["sft"]
    checkpoint = next(p for p in (tmp_path / "runs/real/sft/checkpoints").glob("checkpoint-*"))
    written = sum(p.stat().st_size for p in checkpoint.rglob("*") if p.is_file())
    assert disk_of(config, config.training[0], shape_of(config.model), stage.layout, None).checkpoint == pytest.approx(
        written, rel=0.1
    )
