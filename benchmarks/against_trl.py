"""The same SFT and DPO with this framework and with a plain TRL script: the losses, and the time of a step.

    python -m benchmarks.against_trl [--steps 40] [--processes 2] [--repeats 3] [--deepspeed zero2] [--smoke] [--json FILE]

Both train on the dataset that the data stage wrote, from the same weights, with the same seed. Time is taken the same
way on both sides, from TRL's own `train_runtime`, without start-up; runs alternate, so that a busy machine hits both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.common import Rows, Table, options, publish
from launchers.local.section import free_port
from launchers.processes import World, rank_environment
from trainer.config.shipped import BASE_DIR

BATCH, LENGTH = 16, 256
RATES = {"sft": 2e-5, "dpo": 2e-5}


def plain_trl(stage: str, dataset: str, model: str, out: str, steps: int, deepspeed: str) -> None:
    """One rank of the plain script: TRL's documented usage and nothing else."""
    import deepspeed.ops
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else its first use compiles for a minute
    world = int(os.environ["WORLD_SIZE"])
    zero = {
        "zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": BATCH,
        "gradient_accumulation_steps": 2 // world, "gradient_clipping": 1.0, "zero_allow_untested_optimizer": True,
    }  # fmt: skip
    common = dict(
        output_dir=out, max_steps=steps, per_device_train_batch_size=BATCH, gradient_accumulation_steps=2 // world,
        learning_rate=RATES[stage], lr_scheduler_type="cosine", warmup_steps=10, max_length=LENGTH, max_grad_norm=1.0,
        logging_steps=1, save_strategy="no", bf16=False, gradient_checkpointing=False, use_cpu=True, seed=0,
        report_to="none", disable_tqdm=True, dataloader_pin_memory=False, deepspeed=zero if deepspeed == "zero2" else None,
    )  # fmt: skip
    config = SFTConfig(**common) if stage == "sft" else DPOConfig(**common, precompute_ref_log_probs=True)
    trainer = (SFTTrainer if stage == "sft" else DPOTrainer)(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=config,
        train_dataset=load_from_disk(dataset),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    result = trainer.train()
    if config.process_index == 0:
        history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / "result.json").write_text(json.dumps({"losses": history, "seconds": result.metrics["train_runtime"]}))


def run_plain(given: Namespace, stage: str, dataset: Path, model: Path, out: Path) -> dict:
    port = free_port()
    rest = [stage, str(dataset), str(model), str(out), str(given.steps), given.deepspeed]
    environment = {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.against_trl", "--rank", *rest],
            env={**rank_environment(rank, World(local_size=given.processes, size=given.processes, port=port)), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(given.processes)
    ]
    if any([rank.wait() for rank in ranks]):
        raise SystemExit(f"the plain script failed in stage {stage}")
    return json.loads((out / "result.json").read_text())


def run_keel(given: Namespace, cwd: Path) -> dict[str, dict]:
    command = [
        sys.executable, "-m", "trainer", "experiment=cosalign", "evaluation=none", f"deepspeed={given.deepspeed}",
        f"launcher.processes={given.processes}", f"trainer.max_steps={given.steps}", "trainer.logging_steps=1",
        "trainer.save_strategy='no'", f"data.prompts={60 if given.smoke else 600}",
    ]  # fmt: skip
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = {}
    for stage in ("sft", "dpo"):
        lines = [json.loads(line) for line in (cwd / "runs/cosalign" / stage / "metrics.jsonl").read_text().splitlines()]
        found[stage] = {
            "losses": [line["train/loss"] for line in lines if "train/loss" in line],
            "seconds": next(line["train/train_runtime"] for line in lines if "train/train_runtime" in line),
        }
    return found


def parser() -> ArgumentParser:
    found = options(__doc__)
    found.add_argument("--steps", type=int, default=40)
    found.add_argument("--processes", type=int, default=2, choices=(1, 2))
    found.add_argument("--repeats", type=int, default=3)
    found.add_argument("--deepspeed", choices=("zero2", "none"), default="zero2")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    if given.smoke:
        given.steps, given.processes, given.repeats, given.deepspeed = 2, 1, 1, "none"

    times: dict[str, dict[str, list[float]]] = {s: {"keel": [], "trl": []} for s in ("sft", "dpo")}
    worst = dict.fromkeys(times, 0.0)
    for repeat in range(given.repeats):
        with tempfile.TemporaryDirectory() as name:
            cwd = Path(name)
            ours = run_keel(given, cwd)
            for stage, start in (("sft", BASE_DIR), ("dpo", cwd / "runs/cosalign/sft/model")):
                data = cwd / "runs/cosalign/data" / stage
                theirs = run_plain(given, stage, data, start, cwd / f"plain-{stage}")
                gaps = [abs(a - b) for a, b in zip(ours[stage]["losses"], theirs["losses"], strict=True)]
                worst[stage] = max(worst[stage], *gaps)
                times[stage]["keel"].append(ours[stage]["seconds"] / given.steps)
                times[stage]["trl"].append(theirs["seconds"] / given.steps)
        print(f"repeat {repeat + 1} of {given.repeats} done", flush=True)
    rows: Rows = []
    for stage, sides in times.items():
        ours_, theirs_ = median(sides["keel"]), median(sides["trl"])
        rows.append((stage, f"{ours_:.3f}", f"{theirs_:.3f}", f"{ours_ / theirs_:.2f}", f"{worst[stage]:.1e}"))
    header = ("stage", "this framework, s per step", "plain TRL, s per step", "ratio", "largest loss difference")
    title = f"{given.steps} steps, {given.processes} processes, {given.deepspeed}"
    publish(given, "against_trl", title, [Table("Time of a step", header, rows)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        stage_, dataset_, model_, out_, steps_, deepspeed_ = sys.argv[2:]
        plain_trl(stage_, dataset_, model_, out_, int(steps_), deepspeed_)
    else:
        main()
