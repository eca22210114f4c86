"""The main job: two ranks under ZeRO-2, SFT then DPO, evaluation, W&B, the table. One run; many questions."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from tests.conftest import SMALL, keel, losses, results
from tests.training.wandb_file import wandb_records
from tests.warm.client import warm_keel
from trainer.compare.build import compare
from trainer.config.load import read_config
from trainer.ledger.query import select
from trainer.pipeline.manifest import MANIFEST
from trainer.record import fingerprint_of
from trainer.results.directories import read_directories

ARGUMENTS = ("experiment=cosalign", "deepspeed=zero2", "launcher.processes=2", "run.name=whole", *SMALL)
STAGES = ("data", "sft", "dpo", "evaluate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(run directory, what the run printed)"""
    cwd = tmp_path_factory.mktemp("whole")
    output = keel(*ARGUMENTS, cwd=cwd)
    return cwd / "runs" / "whole", output


def test_every_stage_leaves_a_manifest_of_where_it_came_from(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    produced = {}
    for stage in STAGES:
        manifest = json.loads((run_dir / stage / MANIFEST).read_text())
        produced[stage] = fingerprint_of(manifest["outputs"])
        assert manifest["world_size"] == (1 if stage == "data" else 2)
        assert manifest["versions"]["trl"] == "1.16.0"
        assert manifest["outputs"], stage
    inputs = json.loads((run_dir / "dpo" / MANIFEST).read_text())["inputs"]
    assert inputs == {"data": produced["data"], "sft": produced["sft"]}


def test_the_start_line_says_what_is_about_to_happen(finished: tuple[Path, str]) -> None:
    _, output = finished
    assert "whole · sft · runs/whole/sft · 2 processes, ZeRO-2 · global batch 32 (16 x 1 x 2) · 4 steps" in output
    assert "dpo · expected time" in output


def test_the_results_file_has_every_label_and_metric(finished: tuple[Path, str]) -> None:
    run_dir, output = finished
    found = results(run_dir)
    assert list(found["models"]) == ["base", "ica", "ica_5shot", "sft", "sft_dpo"]
    assert found["run"] == "whole"
    assert found["provenance"]["world_size"] == 2
    for label, metrics in found["models"].items():
        for name in ("cosa_score", "cosa_score_attainable", "helpful_safe", "helpful_unsafe"):
            assert metrics[f"{name}/seen"]["n"] == 5 * 4
            assert metrics[f"{name}/unseen"]["n"] == 3 * 4
        assert metrics["capability"]["n"] == 14
        assert metrics["over_refusal"]["n"] == 6
        for name, metric in metrics.items():
            low, high = metric["ci95"]
            assert low <= metric["value"] <= high, (label, name)
        assert f"{label} " in output
    assert found["models"]["base"]["capability"] == found["models"]["ica"]["capability"]  # the same weights, asked the same


def test_the_run_ends_with_a_page_and_a_picture(finished: tuple[Path, str]) -> None:
    run_dir, output = finished
    assert output.rstrip().endswith("picture: runs/whole/safety.png   report: runs/whole/report.html")
    assert (run_dir / "safety.png").read_bytes().startswith(b"\x89PNG")
    page = (run_dir / "report.html").read_text()
    assert "cosalign/sft_dpo" in page and "CoSA-Score" in page


def test_every_judged_response_is_kept(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    rows = [json.loads(line) for line in (run_dir / "evaluate" / "responses.jsonl").read_text().splitlines()]
    assert len(rows) == 5 * (8 * 4 + 14 + 6)
    recomputed = [row["rating"] / 5 * (1 if not row["risks"] else -1) for row in rows
                  if row["model"] == "sft" and row["safety_config"] == "none"]  # fmt: skip
    stored = results(run_dir)["models"]["sft"]["cosa_score/config/none"]["value"]
    assert math.isclose(stored, sum(recomputed) / len(recomputed), abs_tol=1e-12)


def test_dpo_starts_at_log_2_because_the_reference_is_the_sft_model(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    assert losses(run_dir / "dpo")[0] == pytest.approx(math.log(2), abs=1e-3)


def test_the_saved_models_generate_in_plain_transformers(finished: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run_dir, _ = finished
    for stage in ("sft", "dpo"):
        path = run_dir / stage / "model"
        assert not list(path.glob("*.bin")), "safetensors only"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        chat = [{"role": "user", "content": "what is 2 plus 3 ?"}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        assert tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True) == "5 ."


def test_wandb_has_one_grouped_offline_run_a_stage_with_config_and_summary(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    found = {}
    for path in run_dir.glob("wandb/offline-run-*/run-*.wandb"):
        run, keys, summary = None, set(), set()
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
            elif kind == "history":
                keys |= {item.key or "/".join(item.nested_key) for item in record.history.item}
            elif kind == "summary":
                summary |= {item.key or "/".join(item.nested_key) for item in record.summary.update}
        assert run is not None
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        found[run.job_type] = (run, config, keys, summary)
    assert set(found) == {"sft", "dpo", "evaluate"}
    for stage, (run, config, _, _) in found.items():
        assert run.run_group == "whole"
        assert run.run_id == (run_dir / stage / "wandb_id").read_text()
        assert config["data"]["prompts"] == 60
        assert config["deepspeed"]["zero_optimization"]["stage"] == 2
        assert run.git.commit == json.loads((run_dir / stage / MANIFEST).read_text())["git_commit"].partition("+")[0]
        assert list(run.tags) == ["cosalign", "sandbox"]
    assert {"train/loss", "throughput/tokens_per_second", "throughput/step_seconds"} <= found["sft"][2]
    assert {"model", "cosa/score/seen", "safety/over_refusal", "capability/accuracy", "cost/cpu_hours"} <= found["evaluate"][3]
    (saved,) = run_dir.glob("wandb/offline-run-*/files/results.json")
    assert json.loads(saved.read_text()) == results(run_dir)


def test_it_is_in_the_ledger_with_its_costs_and_can_be_compared(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    columns = 'model, "cost/tokens", "cost/cpu_hours", "cost/peak_memory"'
    _, rows = select(run_dir.parent, f"select {columns} from ledger where role in ('own', 'base') order by model")
    assert rows[0] == ("base", None, None, None) and rows[1][0] == "sft_dpo"
    logged = [json.loads(line) for stage in ("sft", "dpo") for line in (run_dir / stage / "metrics.jsonl").open()]
    assert rows[1][1] == sum(row["train/num_tokens"] for row in logged if row["step"] == 4 and "train/num_tokens" in row)
    assert 0 < rows[1][2] < 1 and 0.1 < rows[1][3] < 16
    found = compare(*read_directories([run_dir]))
    assert [row.key for row in found.rows if row.role == "own"] == ["cosalign/sft_dpo"]
    assert {one.metric for one in found.contrasts} >= {"cosa/score/seen", "safety/over_refusal", "capability/accuracy"}


def test_the_written_config_is_what_ran(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    config = read_config(run_dir / "config.yaml")
    assert config.trainer["max_steps"] == 4
    assert config.launcher.processes == 2


def test_the_same_command_again_keeps_everything(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    before = (run_dir / "dpo" / MANIFEST).read_text()
    output = warm_keel(*ARGUMENTS, cwd=run_dir.parents[1])
    assert output.count("finished before and unchanged: kept") == len(STAGES)
    assert (run_dir / "dpo" / MANIFEST).read_text() == before


def test_another_config_under_the_same_name_is_refused_with_three_ways_out(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    output = warm_keel(*ARGUMENTS, "dpo.beta=0.2", cwd=run_dir.parents[1], code=2)
    assert "dpo.beta: 0.1 there, 0.2 now" in output
    for way_out in ("run.name=<another name>", "run.on_existing=resume", "run.on_existing=overwrite"):
        assert way_out in output


def test_resume_redoes_only_what_the_change_touches(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    sft = (run_dir / "sft" / MANIFEST).read_text()
    output = warm_keel(*ARGUMENTS, "evaluation.capability_prompts=7", "run.on_existing=resume", cwd=run_dir.parents[1])
    assert output.count("kept") == 3
    assert (run_dir / "sft" / MANIFEST).read_text() == sft
    assert results(run_dir)["models"]["sft"]["capability"]["n"] == 7
    carried = re.search(r'id="overview">(.*?)</script>', (run_dir / "report.html").read_text())
    assert carried is not None
    page = json.loads(carried[1])
    place = [metric["name"] for metric in page["metrics"]].index("capability/accuracy")
    assert [row[place]["of"][3] for row in page["values"]] == [7] * 5
