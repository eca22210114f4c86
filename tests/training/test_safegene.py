"""SafeGene from config to results, on the sandbox: one process or two, resumed, gated, and in a model from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.conftest import losses, results
from tests.sweep.fabricate import finish
from tests.training.here import run_here
from tests.warm.client import stop_warm, warm_keel
from trainer import gene as command
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.errors import StageFailed
from trainer.methods.safegene.gene import Gene
from trainer.methods.safegene.merging import expressed
from trainer.methods.safegene.salora import BASES, without
from trainer.methods.safegene.selection import layer_of
from trainer.methods.safegene.stage_recalibrate import read_alpha
from trainer.methods.safegene.tables import tables

# fp32 on CPU; what differs is the order of sums over ranks and shards.
LOSS_TOLERANCE = 2e-4

SIZES = (
    "data.tasks=[recipes]",
    "data.align=160",
    "data.distil=24",
    "data.benign=8",
    "data.contrast=8",
    "data.degrading=32",
    "data.compliant=16",
    "data.recalibration=8",
    "data.safety=16",
    "data.probes=20",
    "data.task_examples=32",
)
RUN = (
    "experiment=safegene",
    "run.name=run",
    *SIZES,
    "method.degrade.band=[0,1]",
    "method.degrade.max_loss=1",
    "trainer.train_batch_size=16",
    "trainer.per_device_train_batch_size=8",
    "trainer.logging_steps=1",
    "trainer.warmup_steps=0",
    "distil.num_train_epochs=2",
    "recalibrate.max_steps=3",
    "recalibrate.optim=sgd",  # a step of Adam is as long as the rate, however small the gradient: nothing to compare
    "recalibrate.learning_rate=20",
    "tracking.mode=disabled",
)
ALONE = ("method.controls=[]", "method.baselines=[]", "evaluation=none")
ASKED = (
    "evaluation.prompts=12",
    "evaluation.capability_prompts=7",
    "evaluation.over_refusal_prompts=8",
    "evaluation.task_prompts=10",
    "evaluation.resamples=50",
    "generation.max_new_tokens=24",
)
STAGE = "recalibrate_recipes"
METHODS = (
    "none", "resta", "safelora", "safemerge", "salora", "safety_tuning", "alpha_one", "global_alpha", "random", "bottom",
    "all", "weight_norm", "on_aligned", "safegene",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, once, with a batch of 16 in two micro-steps: rank by rank, two ranks have the same micro batches."""
    return run_here(tmp_path_factory.mktemp("whole"), *RUN, *ASKED, "method.task.max_steps=4")


def test_every_method_is_compared_in_the_task_and_on_average(whole: Path) -> None:
    models = results(whole)["models"]
    assert list(models)[:3] == ["base", "aligned", "degrade"]
    assert [label for label in models if label.startswith("recipes/")] == [f"recipes/{method}" for method in METHODS]
    for method in METHODS:
        row, mean = models[f"recipes/{method}"], models[f"mean/{method}"]
        assert {"asr", "task_accuracy", "over_refusal"} <= row.keys()
        assert mean["asr"]["value"] == pytest.approx(row["asr"]["value"])  # of one task
    assert "task_accuracy" not in models["aligned"], "it was fine-tuned for no task"
    assert models["recipes/safegene"]["trained_scalars"]["value"] == 3
    assert models["recipes/global_alpha"]["trained_scalars"]["value"] == 1
    assert models["recipes/safety_tuning"]["seconds"]["value"] > 0
    (table,) = tables(results(whole))
    assert table.row_count == len(METHODS)
    for picture in (whole / "select" / "layers.png", whole / "evaluate" / "methods.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_merged_model_is_the_task_model_and_alpha_times_the_gene(whole: Path) -> None:
    task, merged = (load_file(whole / f"{stage}_recipes" / "model" / "model.safetensors") for stage in ("task", "merge"))
    gene, alpha = Gene.load(whole / "select"), read_alpha(whole, "recalibrate_recipes")
    kept = {f"{site}.weight": addition for site, addition in gene.kept().items()}
    assert sorted(alpha) == gene.layers and len(kept) == 7 * len(alpha)
    for name, weight in task.items():
        expected = weight if name not in kept else expressed(weight, kept[name].delta, alpha[layer_of(name)])
        assert merged[name].equal(expected), name
    assert any(not merged[name].equal(task[name]) for name in kept)


def test_nothing_but_the_scalars_is_trained_and_kept(whole: Path) -> None:
    stage = whole / "recalibrate_recipes"
    checkpoint = max((stage / "checkpoints").glob("**/model.safetensors"))
    assert {name: tensor.shape for name, tensor in load_file(checkpoint).items()} == {"alpha": (3,)}
    assert any(value != 1.0 for value in read_alpha(whole, "recalibrate_recipes").values())
    assert len(set(read_alpha(whole, "recalibrate_recipes_global_alpha").values())) == 1


def test_the_gene_learns_and_on_the_aligned_model_itself_there_is_nothing_to_learn(whole: Path) -> None:
    learned = losses(whole / "gene")
    assert learned[-1] < learned[0]
    assert losses(whole / "gene_on_aligned")[0] == pytest.approx(0.0, abs=1e-6)


def test_a_salora_task_has_no_part_in_the_directions_of_safety(whole: Path) -> None:
    bases = load_file(whole / "safety_directions" / BASES)
    adapter = load_file(whole / "salora_recipes" / "adapter" / "adapter_model.safetensors")
    changed = 0.0
    for name, b in adapter.items():
        if "lora_B" in name:
            basis = bases[name.removeprefix("base_model.model.").removesuffix(".lora_B.weight")]
            torch.testing.assert_close(without(b.T, basis), b.T, rtol=0, atol=1e-6)
            changed += float(b.abs().sum())
    assert changed > 0


def test_plain_libraries_load_what_is_left(whole: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(whole / "merge_recipes" / "model")
    ids = torch.tensor([[2, 5, 40, 80, 6]])
    task = AutoModelForCausalLM.from_pretrained(whole / "task_recipes" / "model")
    with torch.no_grad():
        before = task(ids).logits
        after = PeftModel.from_pretrained(task, whole / "select").eval()(ids).logits
    assert not after.allclose(before, atol=1e-3) and not model(ids).logits.allclose(before, atol=1e-3)
    pickles = [path for path in whole.glob("**/training_args.bin") if "checkpoints" not in path.parts]
    assert not pickles


@pytest.mark.parametrize("deepspeed", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_two_processes_give_the_gene_of_one(whole: Path, tmp_path: Path, deepspeed: str) -> None:
    warm_keel(*RUN, *ALONE, "method.task.max_steps=1", f"deepspeed={deepspeed}", "launcher.processes=2", cwd=tmp_path)
    run_dir = tmp_path / "runs" / "run"
    for stage in ("degrade", "gene"):
        assert losses(run_dir / stage) == pytest.approx(losses(whole / stage), abs=LOSS_TOLERANCE), stage
    found, expected = (Gene.load(run / "select") for run in (run_dir, whole))
    assert found.layers == expected.layers and found.scores == pytest.approx(expected.scores, abs=1e-3)


@pytest.mark.parametrize("deepspeed", ["zero2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_two_processes_give_the_scalars_of_one(whole: Path, tmp_path: Path, deepspeed: str) -> None:
    """In the very task model, with the very gene, of the one process."""
    arguments = (*RUN, *ALONE, "method.task.max_steps=4", f"deepspeed={deepspeed}", "launcher.processes=2")
    run_dir = tmp_path / "runs" / "run"
    shutil.copytree(whole, run_dir)
    finish(load_config(composed([*arguments, f"paths.runs={run_dir.parent}"])))
    shutil.rmtree(run_dir / STAGE)
    warm_keel(*arguments, cwd=tmp_path)
    assert losses(run_dir / STAGE) == pytest.approx(losses(whole / STAGE), abs=LOSS_TOLERANCE)
    found, expected = (read_alpha(run, STAGE) for run in (run_dir, whole))
    assert found == pytest.approx(expected, abs=1e-3)
    assert max(abs(value - 1) for value in expected.values()) > 1e-2, "twice the gradient would not be seen"


@pytest.mark.slow
def test_stopped_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    arguments = (
        *RUN,
        *ALONE,
        "deepspeed=zero2",
        "launcher.processes=1",
        "recalibrate.max_steps=20",
        "recalibrate.optim=adamw_torch",
    )
    warm_keel(*arguments, "run.name=undisturbed", cwd=tmp_path)
    for stage in ("gene", "recalibrate_recipes"):
        stop_warm(*arguments, cwd=tmp_path, metrics=tmp_path / "runs" / "run" / stage / "metrics.jsonl", step=2)
    warm_keel(*arguments, cwd=tmp_path)
    runs = [tmp_path / "runs" / name for name in ("undisturbed", "run")]
    for stage in ("gene", "recalibrate_recipes"):
        assert losses(runs[0] / stage) == losses(runs[1] / stage)
    files = ("select/adapter_model.safetensors", "recalibrate_recipes/alpha.json", "merge_recipes/model/model.safetensors")
    for file in files:
        assert (runs[0] / file).read_bytes() == (runs[1] / file).read_bytes(), file


@pytest.mark.slow
def test_a_second_model_can_teach_and_the_gene_can_stay_an_adapter(tmp_path: Path) -> None:
    """The degraded model with all weights trained; and a task model whose gene is not merged."""
    run_dir = run_here(tmp_path, *RUN, *ALONE, "method.degrade.lora=null", "method.merge=false", "method.task.max_steps=2")
    assert losses(run_dir / "gene")[-1] < losses(run_dir / "gene")[0]
    task = AutoModelForCausalLM.from_pretrained(run_dir / "task_recipes" / "model")
    merged = PeftModel.from_pretrained(task, run_dir / "merge_recipes" / "adapter").merge_and_unload()
    before = load_file(run_dir / "task_recipes" / "model" / "model.safetensors")
    kept, alpha = Gene.load(run_dir / "select").kept(), read_alpha(run_dir, "recalibrate_recipes")
    for site, addition in kept.items():
        expected = expressed(before[f"{site}.weight"], addition.delta, alpha[layer_of(site)])
        torch.testing.assert_close(merged.get_submodule(site).weight.detach(), expected, rtol=0, atol=1e-5)


def test_a_degradation_that_is_too_small_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"attack success rose by .* Raise method\.degrade\.learning_rate"):
        run_here(tmp_path, *RUN, *ALONE, "method.degrade.band=[0.9,1]", "method.degrade.max_steps=1")


def test_a_guardrail_turns_the_gene_on_per_prompt(whole: Path, tmp_path: Path) -> None:
    """Prompts that it finds harmless meet the task model itself, word for word."""
    guardrail = run_here(
        tmp_path, "experiment=dsa_guardrails", "method.guardrails={plr: {kind: plr}}", "method.baselines=[]", "model=sandbox",
        "run.name=guardrail", "data.train=400", "data.validation=100", "data.limit=40", "evaluation=none",
        "guardrail.num_train_epochs=4", "guardrail.learning_rate=2e-2", "guardrail.train_batch_size=32",
        "guardrail.per_device_train_batch_size=32",
    )  # fmt: skip
    gated = ("recipes/none", "recipes/safegene", "recipes/safegene_gated")
    run_dir = run_here(
        whole.parent, *RUN, *ASKED, "method.task.max_steps=4", "run.on_existing=resume",
        f"method.guardrail={guardrail / 'guardrail_plr'}", f"evaluation.models=[{','.join(gated)}]",
    )  # fmt: skip
    rows = [json.loads(line) for line in (run_dir / "evaluate" / "responses.jsonl").read_text().splitlines()]
    said: dict[str, dict[str, Any]] = {}
    for row in rows:
        said.setdefault(row["id"], {})[row["model"]] = row["response"]
    assert all(answers[gated[2]] in (answers[gated[0]], answers[gated[1]]) for answers in said.values())
    harmless = [answers for key, answers in said.items() if key.startswith("task/")]
    assert sum(answers[gated[2]] == answers[gated[0]] for answers in harmless) > 0.5 * len(harmless)


def test_a_gene_is_applied_to_a_model_from_elsewhere(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, gene = whole / "salora_recipes" / "model", whole / "select"
    given = [str(whole / "data" / name) for name in ("refusals.jsonl", "task_recipes.jsonl")]
    arguments = ["apply", str(gene), str(model), "--refusals", given[0], "--examples", given[1], "--steps", "3"]
    assert command.main([*arguments, "--out", str(tmp_path / "merged")]) == 0
    assert command.main([*arguments, "--out", str(tmp_path / "beside"), "--adapter"]) == 0
    ids = torch.tensor([[2, 5, 40, 80, 6]])
    beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), tmp_path / "beside").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        torch.testing.assert_close(beside(ids).logits, merged(ids).logits, rtol=0, atol=1e-4)
    assert command.main(["show", str(gene)]) == 0
    assert "kept by contrast: layers" in capsys.readouterr().out
    assert command.main(["apply", str(gene), str(model), "--out", str(tmp_path / "merged")]) != 0, "it is not empty"
    assert command.main(["apply", str(whole), str(model), "--out", str(tmp_path / "no")]) != 0
