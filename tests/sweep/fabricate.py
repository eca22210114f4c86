"""Run directories as a finished run leaves them, without the hours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.load import load_config
from trainer.config.run import RunConfig, write_config
from trainer.pipeline.chain import chain
from trainer.pipeline.manifest import write_manifest
from trainer.pipeline.places import RESULTS
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


def finish(config: RunConfig, models: Mapping[str, Any] | None = None) -> None:
    """Give every stage the manifest of this config, and the run its results."""
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
        write_json(run_dir / RESULTS, {"run": config.run.name, "models": models})
