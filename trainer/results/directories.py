"""Finished runs, read from their directories; what cannot be read is named and left out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from trainer.config.run import plain_yaml
from trainer.errors import ArtifactError, ConfigError
from trainer.pipeline.chain import EVALUATE
from trainer.pipeline.places import METRICS_FILE, RESPONSES, RESULTS, STEP
from trainer.pipeline.run import CONFIG
from trainer.record import fingerprint_of
from trainer.results.source import Curves, Source
from trainer.vocabulary import name_of

CURVES = (
    "train/loss", "validation/loss", "train/mean_token_accuracy", "train/rewards/accuracies", "train/rewards/margins",
    "train/grad_norm", "throughput/tokens_per_second",
)  # fmt: skip
_OF_RESPONSE = (
    "model", "id", "suite", "split", "safety_config", "situation", "system", "prompt", "response", "judge", "valid", "risks",
    "rating", "refused", "score", "keeps", "correct",
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
        responses = partial(read_responses, directory / EVALUATE / RESPONSES)
        return source_of(results, config, str(directory), _curves(directory), responses)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
        raise ArtifactError(
            f"{CONFIG} or {RESULTS} is damaged, or of an earlier version ({type(error).__name__}: {error}); delete its "
            f"{EVALUATE}/ and start it again to evaluate anew."
        ) from error


def source_of(results: Any, config: Any, where: str, curves: Curves, responses: Callable[[], list[Any]]) -> Source:
    """
    Args:
        results, config: what is in results.json and in config.yaml.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are not.
    """
    models = {label: dict(metrics) for label, metrics in results["models"].items()}
    for label, costs in results["costs"].items():
        models[label] |= costs
    roles = results["roles"]
    source = Source(
        name=str(results["run"]),
        where=where,
        identity=fingerprint_of([results, config["seed"]]),
        config=config,
        provenance=results["provenance"],
        roles={"own": roles["own"], "base": roles["base"], "untrained": list(roles["untrained"])},
        models={label: {name_of(name): _entry(entry) for name, entry in found.items()} for label, found in models.items()},
        curves=curves,
        responses=responses,
    )
    if unknown := {label for label in (roles["own"], roles["base"]) if label is not None} - models.keys():
        raise KeyError(f"no model {', '.join(map(str, unknown))}")
    _ = source.seed, source.method, source.facts
    return source


def read_responses(path: Path) -> list[dict[str, Any]]:
    """What every model of a run answered; none where nothing was asked.

    Raises:
        ArtifactError: a line is damaged.
    """
    if not path.exists():
        return []
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        if lacking := {name for line in found for name in _OF_RESPONSE if name not in line}:
            raise ValueError(f"a line has no {', '.join(sorted(lacking))}")
        return found
    except (ValueError, TypeError) as error:
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
        "value": None if value is None or not math.isfinite(value) else float(value),
        "ci95": None if low is None or high is None else [low, high],
        "n": int(entry.get("n", 0)),
        "missing": list(entry.get("missing", ())),
    }


def _curves(directory: Path) -> Curves:
    """What stages logged; where a step was done twice, the later holds. A line that was cut off is passed over."""
    found: Curves = {}
    for path in sorted(directory.glob(f"*/{METRICS_FILE}"), key=lambda path: path.stat().st_mtime):  # stages in their order
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            for name in CURVES:
                if isinstance(row.get(name), float | int) and math.isfinite(row[name]):
                    found.setdefault((path.parent.name, name), {})[int(row[STEP])] = float(row[name])
    return found
