"""What the documents leave to the reader, and what the tests put in its place. A word that is not here stands for itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from tests.sweep.fabricate import finish, run_config
from trainer.compose import composed
from trainer.config.load import load_config
from trainer.config.run import write_config
from trainer.config.sections import ModelSection
from trainer.config.shipped import SHIPPED
from trainer.methods.dsa import artifact
from trainer.methods.dsa.adapter_config import AdapterConfig
from trainer.methods.dsa.factory import make_aligner, make_guardrail
from trainer.methods.safegene.gene import Gene, architecture_of, tokenizer_fingerprint
from trainer.models.fingerprint import base_fingerprint
from trainer.models.load import load_model, load_tokenizer
from trainer.models.low_rank import read_adapter
from trainer.pipeline.run import CONFIG, run_directory
from trainer.sweep.journal import Entry, Journal

JOB = "7"  # what the fake Slurm calls every job
BASE = SHIPPED["sandbox_steerable"]

# A word, or a part of one, that no program could take -> what stands in for it, in the order of replacement.
PLACEHOLDERS = {
    "<job id>": JOB,
    "runs/<run.name>": "runs/seeds",
    "experiment=real/align": "experiment=real/align model.path=sandbox",
    "/models/a-chat-model": "a-chat-model",
    "/models/fine-tuned": "fine-tuned",
    "data.path=...": "data.path=pairs.jsonl",
    "RUN_DIR...": "runs/first",
    "RUN_DIR": "runs/first",
    "chat RUN": "chat runs/first",
    "STAGE rank|node": "sft rank",
    "STAGE": "sft",
    "--stage S": "--stage sft",
    "--tasks FILE": "--tasks tasks.txt",
    "--encoder ENCODER": "--encoder a-chat-model",
    "--json FILE": "--json rows.json",
    "FILE...": "FILE",
    "--toxigen FILE": "--toxigen toxigen_annotated.jsonl",
    "--summedits FILE": "--summedits summedits_news.jsonl",
    "summedits_*.json": "summedits_news.jsonl",
    "benchmarks.NAME": "benchmarks.dsa_cost",
    "requeue JOB": f"requeue {JOB}",
    "job JOB": f"job {JOB}",
    "scancel JOB": f"scancel {JOB}",
    "USR2 JOB": f"USR2 {JOB}",
    "--out DIR": "--out out",
    " ...": "",  # further overrides, of the reader's own
}


def rows(path: Path, **row: object) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(4)))


def pairs(path: Path) -> None:
    rows(path, prompt="what is 2 plus 3 ?", chosen="5", rejected="6")


def instructions(path: Path) -> None:
    path.write_text(json.dumps([{"instruction": f"say {number}"} for number in range(400)]))


def prompts(path: Path) -> None:
    path.write_text("prompt\nsay 1\nsay 2\n")


def questions(path: Path) -> None:
    rows(path, question="what is 2 plus 3 ?", right="5", wrong=["6"])


def examples(path: Path) -> None:
    path.write_text("".join(json.dumps({"prompt": f"say {n}", "completion": f"{n} ."}) + "\n" for n in range(1000)))


def gene(path: Path) -> None:
    """Of SafeGene, untrained."""
    path.mkdir(parents=True)
    section = ModelSection(path=str(BASE), dtype="float32")
    base, tokenizer = load_model(section, str(BASE)), load_tokenizer(section, str(BASE))
    facts = ([0], [0.1] * 4, "contrast", architecture_of(base), tokenizer_fingerprint(tokenizer), "base", {"run": "made"})
    adapter = path.with_name("adapter")
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(adapter)
    Gene(read_adapter(adapter), *facts).save(adapter, path)


def guardrail(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "adapter.json").write_text("{}")


def model(path: Path) -> None:
    path.symlink_to(BASE)


def trained_run(path: Path) -> None:
    """Of CoSAlign, whose last stage left the base as it was."""
    (path / "dpo").mkdir(parents=True)
    (path / "dpo" / "model").symlink_to(BASE)
    write_config(load_config(composed(["experiment=cosalign", "model=sandbox_steerable"])), path / CONFIG)


def adapted_run(path: Path) -> None:
    """Of DSA, with an untrained aligner and guardrail."""
    path.mkdir(parents=True)
    write_config(load_config(composed(["experiment=dsa"])), path / CONFIG)
    base = load_model(ModelSection(path=str(BASE), dtype="float32"), str(BASE))
    guardrail = make_guardrail(AdapterConfig("lst"), base, ("prompt",))
    guardrail.tau = 0.5
    torch.manual_seed(0)
    for name, adapter in {"guardrail_lst": guardrail, "dpo_aligner": make_aligner(AdapterConfig("lld"), base)}.items():
        (path / name).mkdir()
        artifact.save(adapter, path / name, base_fingerprint(str(BASE)))


def sweep(path: Path) -> None:
    journal = Journal(path / "sweep.jsonl")
    for seed in (0, 1):
        config = run_config(path.parent, f"{path.name}/seed={seed}", seed=seed)
        finish(config, {"sft": {"capability": {"value": 0.5}}})
        journal.append(Entry(f"seed={seed}", str(run_directory(config)), [f"seed={seed}"], "done", None))


# Files and directories that the reader is taken to have -> what makes a small one.
FILES: dict[str, Callable[[Path], None]] = {
    "pairs.jsonl": pairs,
    "harmful.json": instructions,
    "to-train-on.json": instructions,
    "harmless.json": instructions,
    "harmbench.csv": prompts,
    "safe.csv": prompts,
    "questions.jsonl": questions,
    "harmful.jsonl": examples,
    "harmless.jsonl": examples,
    "answered.jsonl": examples,
    "refusals.jsonl": examples,
    "task.jsonl": examples,
    "runs/safegene/select": gene,
    "runs/guards/guardrail_lst": guardrail,
    "fine-tuned": model,
    "a-chat-model": model,
    "runs/cosalign": trained_run,
    "runs/first": trained_run,
    "runs/second": trained_run,
    "runs/dsa": adapted_run,
    "runs/real-align/sft/model": model,
    "runs/seeds": sweep,
    "runs/beta": sweep,
}


def filled_in(text: str) -> str:
    """A command with every placeholder replaced."""
    for placeholder, stand_in in PLACEHOLDERS.items():
        text = text.replace(placeholder, stand_in)
    return text
