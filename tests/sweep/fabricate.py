"""Run directories as a finished run leaves them, without the hours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config.load import load_config
from trainer.config.run import RunConfig, write_config
from trainer.evaluation.roles import roles_of
from trainer.pipeline.chain import EVALUATE, chain
from trainer.pipeline.manifest import write_manifest
from trainer.pipeline.places import RESPONSES, RESULTS
from trainer.pipeline.run import CONFIG, run_directory
from trainer.pipeline.work import inputs_of
from trainer.record import fingerprint_of, write_json


def run_config(runs: Path, name: str, **sections: Any) -> RunConfig:
    """A small SFT run below `runs`."""
    values: dict[str, Any] = {
        "run": {"name": name},
        "paths": {"runs": str(runs)},
        "method": {"name": "sft"},
        "model": {"path": "sandbox"},
        "data": {"format": "sandbox"},
        "trainer": {"train_batch_size": 2, "per_device_train_batch_size": 2, "max_length": 256},
        "launcher": {"name": "local"},
        "judge": {"name": "exact"},
    }
    return load_config(values | sections)


def finish(
    config: RunConfig, models: Mapping[str, Any] | None = None, responses: Sequence[Mapping[str, Any]] = (),
    costs: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Give every stage the manifest of this config, and the run its results; a metric of them may be its value alone."""
    run_dir = run_directory(config)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_config(config, run_dir / CONFIG)
    produced: dict[str, str] = {}
    for stage in chain(config):
        inputs = inputs_of(stage, produced)
        fingerprint = fingerprint_of({"stage": stage.name, "settings": stage.settings, "inputs": inputs})
        (run_dir / stage.name).mkdir(exist_ok=True)
        manifest = write_manifest(
            run_dir / stage.name, fingerprint=fingerprint, inputs=inputs, config=stage.settings,
            seed=0, world_size=1, seconds=0.0, outputs=[],
        )  # fmt: skip
        produced[stage.name] = manifest.produced
    if models is not None:
        write_json(run_dir / RESULTS, results_of(config, models, costs or {}))
    if responses:
        (run_dir / EVALUATE / RESPONSES).write_text("".join(json.dumps(line) + "\n" for line in responses))


def results_of(config: RunConfig, models: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation writes of these models."""

    def entries(metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {k: dict(v) if isinstance(v, Mapping) else {"value": v, "ci95": None, "n": 1} for k, v in metrics.items()}

    return {
        "run": config.run.name,
        "provenance": {"inputs": {"model.path": "c0ffee"}, "git_commit": "c0ffee", "seed": config.seed, "hardware": "1 x CPU"},
        "roles": roles_of(config, list(models)),
        "models": {label: entries(metrics) for label, metrics in models.items()},
        "costs": {label: entries(costs.get(label, {})) for label in models},
    }


def response(model: str, prompt: str, suite: str = "attack", **others: Any) -> dict[str, Any]:
    """A line of responses.jsonl: a safe answer to an attack where nothing else is said."""
    line = {
        "model": model, "id": f"{suite}/{prompt}", "suite": suite, "split": "", "safety_config": "", "situation": "",
        "system": "", "prompt": prompt, "response": "x", "judge": {}, "valid": True, "risks": [], "rating": 0,
        "refused": False, "score": None, "keeps": None, "correct": None,
    }  # fmt: skip
    return line | others
