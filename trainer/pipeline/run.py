"""Carry out a run: claim its directory, then do its stages in order, skipping those that are finished and unchanged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from trainer.checkpoints.start import prepare_start
from trainer.config.bases import Scheduler
from trainer.config.depends import effective
from trainer.config.load import read_config
from trainer.config.run import RunConfig, plain_yaml, to_mapping, write_config
from trainer.config.stage import Stage
from trainer.config.zero import zero_stage
from trainer.errors import ArtifactError, ConfigError, RankLost, StageFailed
from trainer.pipeline.chain import chain
from trainer.pipeline.lock import LOCK, LONGEST, exclusive
from trainer.pipeline.manifest import Manifest, damaged_outputs, read_manifest
from trainer.pipeline.places import PICTURE, REPORT, RESULTS
from trainer.pipeline.work import TICKET, absent_problems, inputs_of
from trainer.record import fingerprint_of, write_json
from trainer.suggest import did_you_mean

CONFIG = "config.yaml"
SWEEP = "sweep"  # a sweep of the same name keeps sweep.jsonl, and a directory sweep/, beside the run's own files


def run_directory(config: RunConfig) -> Path:
    return Path(config.paths.runs).expanduser() / config.run.name


def _comparable(values: dict[str, Any]) -> dict[str, Any]:
    """A config without what may differ between two starts of the same run: no stage depends on it."""
    kept = {k: v for k, v in effective(values).items() if k not in ("launcher", "tracking", "paths", "survival")}
    return kept | {"run": {"name": values["run"]["name"]}}


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} there, {after!r} now")
    return lines


def scheduler_of(config: RunConfig) -> Scheduler | None:
    """The queue that jobs of this run may be in: this config's, or that of the config that the run was started with before."""
    if config.launcher.scheduler is not None:
        return config.launcher.scheduler
    try:
        return read_config(run_directory(config) / CONFIG).launcher.scheduler
    except ConfigError:  # there is none, or it is damaged
        return None


def claim_directory(config: RunConfig) -> Path:
    """The run directory, ours to write in, with the resolved config in it.

    Raises:
        ConfigError: somebody works there, another config's run is there and `run.on_existing` is `refuse`, or it cannot be
            written.
    """
    run_dir = run_directory(config)
    _refuse_what_is_no_run(run_dir)
    with exclusive(run_dir, scheduler_of(config)):
        return _claim(config, run_dir)


@contextmanager
def alone(config: RunConfig) -> Iterator[None]:
    """Have the run of this config alone in this block: no other start has it, and none of its jobs waits to.

    Raises:
        ConfigError: somebody works there or will, or the directory is no run or cannot be written.
        StageFailed: a job may be about to work there, and the scheduler does not answer.
    """
    run_dir, scheduler = run_directory(config), scheduler_of(config)
    _refuse_what_is_no_run(run_dir)
    with exclusive(run_dir, scheduler):
        if scheduler is not None:
            _refuse_beside_jobs(config, scheduler, run_dir)
        yield


def _refuse_what_is_no_run(run_dir: Path) -> None:
    """Raises ConfigError; nothing has been written there."""
    cut_short = run_dir / f"{CONFIG}.tmp"  # by a full disk, or a kill
    if not run_dir.exists() or (run_dir / CONFIG).exists():
        return
    if any(path != cut_short and not _is_others(path) for path in run_dir.iterdir()):
        raise ConfigError(f"run.name: {run_dir} exists and is not a run; choose another run.name or paths.runs.")


def _refuse_beside_jobs(config: RunConfig, scheduler: Scheduler, run_dir: Path) -> None:
    """Raises ConfigError where a job of this run, and not the one around this process, is pending or running."""
    try:
        jobs = scheduler.jobs_of(run_dir)
    except StageFailed as error:
        if config.launcher.scheduler is not None:
            raise
        print(f"whether jobs of this run wait in the queue is not known here: {error}", file=sys.stderr, flush=True)
        return
    here = scheduler.here()
    if here in jobs:
        return
    for job, state in jobs.items():
        raise ConfigError(
            f"run.name: job {job} of this run is {state.lower()}; two in one run directory would overwrite each other. Wait "
            "for it, cancel it, or choose another run.name."
        )


def _claim(config: RunConfig, run_dir: Path) -> Path:
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
    try:
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
    except (UnicodeDecodeError, yaml.YAMLError):
        values = None
    if not isinstance(values, dict) or "run" not in values:
        raise ConfigError(f"run.name: {path} is damaged; run.on_existing=overwrite starts that run again.")
    return values


def _is_others(path: Path) -> bool:
    """Whether this is the lock, belongs to a sweep of the same name, or holds other runs (a sweep's, say)."""
    return path.name == LOCK or path.stem == SWEEP or (path.is_dir() and path.name != "wandb" and any(path.rglob(CONFIG)))


def _delete_run(run_dir: Path) -> None:
    """The config last: as long as something is left, it is still seen to be a run."""
    for path in sorted(run_dir.iterdir(), key=lambda path: path.name == CONFIG):
        if not _is_others(path):
            _remove(path)


def _remove(path: Path) -> None:
    """A file, a directory with all that is in it, or a link; never what a link leads to."""
    try:
        if path.is_symlink():
            print(f"{path} is a link: it is removed, and what it leads to ({path.readlink()}) stays", flush=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be removed: {error}; remove it yourself, then start again.") from error


def carry_out(config: RunConfig, run_dir: Path | None = None, only: str | None = None) -> Path:
    """Do every stage of the run that is not done. Returns the run directory.

    Args:
        run_dir: where, if it is claimed already.
        only: do this stage alone; those before it must be finished.

    Raises:
        KeelError: a stage failed; what is finished stays, and the same command continues.
    """
    if problems := absent_problems(chain(config)):
        raise ConfigError(problems)
    # A job may begin while the command that submits it still has the run, and where one that had it has just died.
    with alone(config) if run_dir is None else exclusive(run_dir, scheduler_of(config), patience=LONGEST):
        return _carry_out(config, claim_directory(config) if run_dir is None else run_dir, only)


def _carry_out(config: RunConfig, run_dir: Path, only: str | None) -> Path:
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
    if stage_dir.is_symlink() and not stage_dir.exists():
        raise ArtifactError(
            f"{stage_dir}: is a link to {stage_dir.readlink()}, which is not there; bring that back (is its disk mounted?), or "
            "remove the link to do the stage afresh."
        )
    if stage_dir.exists() and not (ticket.exists() and fingerprint in ticket.read_text(errors="replace")):
        _remove(stage_dir)
    stage_dir.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, REPORT, PICTURE):
        (run_dir / name).unlink(missing_ok=True)  # they were of something else
    write_json(ticket, value)
    if stage.trains:
        world_size = config.launcher.world_size(stage.name)
        prepare_start(stage_dir, zero_stage(config), world_size, config.survival.checkpoints_of)
    try:
        config.launcher.start(run_dir, stage.name, stage.distributed)
    except RankLost as error:  # in the seconds between its manifest and its ranks' end
        if not _is_done(stage_dir, fingerprint):
            raise
        print(f"{config.run.name} · {stage.name} · finished, and then: {error}", flush=True)


def _manifest_of(run_dir: Path, stage: Stage) -> Manifest:
    """Of a stage that has finished."""
    manifest = read_manifest(run_dir / stage.name)
    if manifest is None:
        raise ArtifactError(f"stage {stage.name} ended without its manifest; see {run_dir / stage.name / 'logs'}.")
    return manifest
