"""Finished runs, read from their directories; what cannot be read is named and left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from trainer.config.run import plain_yaml
from trainer.errors import ArtifactError, ConfigError
from trainer.pipeline.chain import EVALUATE
from trainer.pipeline.manifest import MANIFEST
from trainer.pipeline.places import METRICS_FILE, RESPONSES, RESULTS, STEP
from trainer.pipeline.run import CONFIG
from trainer.record import fingerprint_of
from trainer.results.source import Curves, Source
from trainer.vocabulary import name_of

CURVES = (
    "train/loss", "train/mean_token_accuracy", "train/rewards/accuracies", "train/rewards/margins", "train/grad_norm",
    "throughput/tokens_per_second",
)  # fmt: skip


def read_directories(given: Sequence[Path]) -> tuple[list[Source], dict[str, str]]:
    """The runs in these directories, each a run's or one that holds runs; and which were left out, and why.

    Raises:
        ConfigError: a directory is not there or holds no run, or a run was given twice.
    """
    found: dict[Path, Source] = {}
    left_out: dict[str, str] = {}
    problems = []
    for path in given:
        runs = [path] if (path / CONFIG).is_file() else runs_below(path)
        if not runs:
            problems.append(f"{path}: no run is there; give directories of runs or of sweeps, such as runs/NAME.")
        for run in runs:
            if (real := run.resolve()) in found:
                problems.append(f"{run}: this run is given twice, and counts once; give it once.")
                continue
            try:
                found[real] = read_run(run)
            except ArtifactError as error:
                left_out[str(run)] = str(error)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return list(found.values()), left_out


def runs_below(directory: Path) -> list[Path]:
    """The runs that a directory holds, a sweep's say."""
    return sorted(path.parent for path in directory.glob(f"*/{CONFIG}")) if directory.is_dir() else []


def read_run(directory: Path) -> Source:
    """A finished run.

    Raises:
        ArtifactError: it has not finished, or a file of it is damaged; the text says which, and what to do.
    """
    results = _json(directory / RESULTS, "its evaluation has not finished; the command that started it goes on")
    try:
        config = plain_yaml((directory / CONFIG).read_text())
        assert isinstance(config, dict)
        models = {label: dict(metrics) for label, metrics in results["models"].items()}
        for label, costs in results["costs"].items():
            models[label] |= costs
        source = Source(
            name=str(results["run"]),
            where=str(directory),
            identity=fingerprint_of([results, config["seed"]]),
            config=config,
            provenance=results["provenance"],
            roles=results["roles"],
            models={label: {name_of(name): _entry(entry) for name, entry in found.items()} for label, found in models.items()},
            hardware=_hardware(directory),
            curves=_curves(directory),
            responses=partial(read_responses, directory / EVALUATE / RESPONSES),
        )
        assert source.method and source.roles.keys() >= {"own", "base", "untrained"}
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, OSError, yaml.YAMLError) as error:
        raise ArtifactError(
            f"{CONFIG} or {RESULTS} is damaged, or of an earlier version ({type(error).__name__}: {error}); delete its "
            f"{EVALUATE}/ and start it again to evaluate anew."
        ) from error
    return source


def read_responses(path: Path) -> list[dict[str, Any]]:
    """What every model of a run answered; none where nothing was asked.

    Raises:
        ArtifactError: a line is damaged.
    """
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete {path.parent} and start the run again.") from error


def _json(path: Path, missing: str) -> dict[str, Any]:
    if not path.exists():
        raise ArtifactError(f"no {path.name}: {missing}.")
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name} is damaged ({error}); delete the stage that wrote it to redo it.") from error
    return found


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """One metric, with all its fields.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    value, ends = entry["value"], entry.get("ci95")
    low, high = (None, None) if ends is None else map(float, ends)
    return {
        "value": None if value is None else float(value),
        "ci95": None if low is None or high is None else [low, high],
        "n": int(entry.get("n", 0)),
        "missing": list(entry.get("missing", ())),
    }


def _hardware(directory: Path) -> str:
    """Of the stages that trained and evaluated, `4 x NVIDIA H100 80GB HBM3`."""
    found = []
    for path in sorted(directory.glob(f"*/{MANIFEST}")):
        manifest = _json(path, "")
        if (cost := manifest.get("cost")) is not None:
            found.append((manifest["world_size"], cost["device"]))
    used = [one for one in found if one[1] != "CPU"] or found
    return ", ".join(dict.fromkeys(f"{count} x {device}" for count, device in sorted(used, reverse=True)[:1]))


def _curves(directory: Path) -> Curves:
    """What stages logged; where a step was done twice, the later holds. A line that was cut off is passed over."""
    found: Curves = {}
    for path in sorted(directory.glob(f"*/{METRICS_FILE}")):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            for name in CURVES:
                if isinstance(row.get(name), float | int):
                    found.setdefault((path.parent.name, name), {})[int(row[STEP])] = float(row[name])
    return found
