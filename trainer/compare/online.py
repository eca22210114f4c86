"""Finished runs, read from W&B: the results that each evaluation has left there. Responses stay with the runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError
from trainer.pipeline.chain import EVALUATE
from trainer.pipeline.places import RESULTS, STEP
from trainer.results.directories import source_of
from trainer.results.source import Curves, Source

LOSS = "train/loss"


def read_online(project: str, group: str, api: Any = None) -> tuple[list[Source], dict[str, str]]:
    """The runs of a group, and which were left out, and why.

    Args:
        project: `ENTITY/PROJECT`.
        api: `wandb.Api()`.

    Raises:
        ConfigError: W&B does not answer, or there is no such group.
    """
    import wandb  # a second, which no other source needs

    try:
        found = list((api or wandb.Api()).runs(project, filters={"group": group}))
    except (wandb.errors.Error, ValueError) as error:
        raise ConfigError(f"--wandb: {project} cannot be read: {error}") from error
    if not found:
        raise ConfigError(f"--group: {project} has no run in a group {group}; W&B shows the groups of a project.")
    sources, left_out = [], {}
    for run in found:
        if run.job_type != EVALUATE:
            continue
        try:
            same = [other for other in found if other.config["run"]["name"] == run.config["run"]["name"]]
            curves = {(one.job_type, LOSS): _losses(one) for one in same if one.job_type != EVALUATE}
            sources.append(source_of(_results(run), run.config, run.url, _known(curves), list))
        except (wandb.errors.Error, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            left_out[run.url] = f"its {RESULTS} cannot be read ({type(error).__name__}: {error}); evaluate and sync it again."
    return sources, left_out


def _results(run: Any) -> Any:
    with tempfile.TemporaryDirectory() as place:
        run.file(RESULTS).download(root=place, replace=True)
        return json.loads((Path(place) / RESULTS).read_text())


def _losses(run: Any) -> dict[int, float]:
    return {int(row[STEP]): float(row[LOSS]) for row in run.scan_history(keys=[STEP, LOSS])}


def _known(curves: Mapping[tuple[str, str], dict[int, float]]) -> Curves:
    return {key: points for key, points in curves.items() if points}
