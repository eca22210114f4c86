"""Carry out a run: claim its directory, then do its stages in order, skipping those that are finished and unchanged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from trainer.checkpoints.start import prepare_start
from trainer.config.run import RunConfig, plain_yaml, to_mapping, write_config
from trainer.config.stage import Stage
from trainer.config.zero import zero_stage
from trainer.errors import ArtifactError, ConfigError
from trainer.pipeline.chain import chain
from trainer.pipeline.manifest import Manifest, damaged_outputs, read_manifest
from trainer.pipeline.places import PICTURE, REPORT, RESULTS
from trainer.pipeline.work import TICKET, inputs_of
from trainer.record import fingerprint_of, write_json
from trainer.suggest import did_you_mean

CONFIG = "config.yaml"
SWEEP = "sweep"  # a sweep of the same name keeps sweep.jsonl, and a directory sweep/, beside the run's own files


def run_directory(config: RunConfig) -> Path:
    return Path(config.paths.runs).expanduser() / config.run.name


def _comparable(values: dict[str, Any]) -> dict[str, Any]:
    """A config without what may differ between two starts of the same run: no stage depends on it."""
    return {k: v for k, v in values.items() if k not in ("launcher", "tracking", "paths", "survival")} | {
        "run": {"name": values["run"]["name"]}
    }


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} there, {after!r} now")
    return lines


def claim_directory(config: RunConfig) -> Path:
    """The run directory, ours to write in, with the resolved config in it.

    Raises:
        ConfigError: another config's run is there and `run.on_existing` is `refuse`, or it cannot be written.
    """
    run_dir = run_directory(config)
    path = run_dir / CONFIG
    if path.exists() and config.run.on_existing == "overwrite" and not _started_again(config):
        _delete_run(run_dir)
    elif path.exists() and config.run.on_existing == "refuse":
        changed = _differences(_comparable(_values_in(path)), _comparable(to_mapping(config)))
        if changed:
            shown = "\n  ".join(changed[:8] + (["..."] if len(changed) > 8 else []))
            raise ConfigError(
                f"run.name: {run_dir} holds a run with another config:\n  {shown}\n"
                "Three ways out: run.name=<another name>; run.on_existing=resume (keeps the stages that this does not change); "
                "run.on_existing=overwrite (deletes that run)."
            )
    elif not path.exists() and run_dir.exists() and any(not _is_others(p) for p in run_dir.iterdir()):
        raise ConfigError(f"run.name: {run_dir} exists and is not a run; choose another run.name or paths.runs.")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_config(config, path)
    except OSError as error:
        raise ConfigError(
            f"paths.runs: cannot write in {run_dir}: {error.strerror}; choose a directory you can write to."
        ) from error
    return run_dir


def _started_again(config: RunConfig) -> bool:
    """Whether a scheduler put this job back into the queue: what is there is its own work, whatever `on_existing` says."""
    scheduler = config.launcher.scheduler
    return scheduler is not None and scheduler.restarted() > 0


def _values_in(path: Path) -> dict[str, Any]:
    try:
        values = plain_yaml(path.read_text())
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict) or "run" not in values:
        raise ConfigError(f"run.name: {path} is damaged; run.on_existing=overwrite starts that run again.")
    return values


def _is_others(path: Path) -> bool:
    """Whether this belongs to a sweep of the same name, or holds other runs (a sweep's, say)."""
    return path.stem == SWEEP or (path.is_dir() and path.name != "wandb" and any(path.rglob(CONFIG)))


def _delete_run(run_dir: Path) -> None:
    for path in run_dir.iterdir():
        if _is_others(path):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def carry_out(config: RunConfig, run_dir: Path | None = None, only: str | None = None) -> Path:
    """Do every stage of the run that is not done. Returns the run directory.

    Args:
        run_dir: where, if it is claimed already.
        only: do this stage alone; those before it must be finished.

    Raises:
        KeelError: a stage failed; what is finished stays, and the same command continues.
    """
    run_dir = claim_directory(config) if run_dir is None else run_dir
    stages = chain(config)
    if only is not None and only not in (names := [stage.name for stage in stages]):
        raise ConfigError(f"--stage: this run has no stage {only}; {did_you_mean(only, names)}")
    produced: dict[str, str] = {}
    for stage in stages:
        inputs = inputs_of(stage, produced)
        fingerprint = _fingerprint(stage, inputs)
        if _is_done(run_dir / stage.name, fingerprint):
            if only in (None, stage.name):
                print(f"{config.run.name} · {stage.name} · finished before and unchanged: kept", flush=True)
        elif only in (None, stage.name):
            _start(config, run_dir, stage, fingerprint, inputs)
        else:
            raise ArtifactError(f"stage {only} needs stage {stage.name}, not finished for this config; run that first.")
        produced[stage.name] = _manifest_of(run_dir, stage).produced
        if stage.name == only:
            break
    return run_dir


def is_finished(config: RunConfig) -> bool:
    """Whether there is nothing left to do for this config. Unlike carrying it out, this does not read outputs again."""
    produced: dict[str, str] = {}
    for stage in chain(config):
        manifest = read_manifest(run_directory(config) / stage.name)
        if manifest is None or manifest.fingerprint != _fingerprint(stage, inputs_of(stage, produced)):
            return False
        produced[stage.name] = manifest.produced
    return True


def _fingerprint(stage: Stage, inputs: dict[str, str]) -> str:
    return fingerprint_of({"stage": stage.name, "settings": stage.settings, "inputs": inputs})


def _is_done(stage_dir: Path, fingerprint: str) -> bool:
    manifest = read_manifest(stage_dir)
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    if damaged := damaged_outputs(stage_dir, manifest):
        raise ArtifactError(
            f"{stage_dir}: {', '.join(damaged)} changed or vanished since the stage finished; delete {stage_dir} to redo it."
        )
    return True


def _start(config: RunConfig, run_dir: Path, stage: Stage, fingerprint: str, inputs: dict[str, str]) -> None:
    """Run one stage. What a start with the same fingerprint left is resumed; anything else is removed first."""
    stage_dir = run_dir / stage.name
    ticket = stage_dir / TICKET
    value = {"fingerprint": fingerprint, "inputs": inputs}
    if stage_dir.exists() and not (ticket.exists() and fingerprint in ticket.read_text()):
        shutil.rmtree(stage_dir)
    stage_dir.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, REPORT, PICTURE):
        (run_dir / name).unlink(missing_ok=True)  # they were of something else
    write_json(ticket, value)
    if stage.trains:
        world_size = config.launcher.world_size(stage.name)
        prepare_start(stage_dir, zero_stage(config), world_size, config.survival.checkpoints_of)
    config.launcher.start(run_dir, stage.name, stage.distributed)


def _manifest_of(run_dir: Path, stage: Stage) -> Manifest:
    """Of a stage that has finished."""
    manifest = read_manifest(run_dir / stage.name)
    if manifest is None:
        raise ArtifactError(f"stage {stage.name} ended without its manifest; see {run_dir / stage.name / 'logs'}.")
    return manifest
