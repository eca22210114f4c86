"""How good a guardrail is as a judge of responses, from what it said of the texts of its own run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.load import read_config
from trainer.config.run import RunConfig
from trainer.errors import ArtifactError, DataError
from trainer.methods.dsa.measure import Metric, auc, calibrate
from trainer.methods.dsa.names import FACTS, PROBABILITIES, TRAIN, VALIDATION
from trainer.pipeline.run import CONFIG

RESPONSE = "response"  # the label of a guardrail that reads responses
_RESAMPLES, _SEED = 2000, 0


@dataclass(frozen=True)
class Quality:
    """Attributes:
    tau: the threshold for responses.
    auc: ROC AUC on the test responses of its run; sets: which they are of.
    run: the config of that run.
    """

    tau: float
    auc: Metric
    sets: list[str]
    run: RunConfig


def quality_of(directory: Path, false_positive_rate: float) -> Quality:
    """
    Raises:
        ArtifactError, ConfigError: there is no guardrail of responses, or how good it is cannot be known.
    """
    try:
        facts = json.loads((directory / FACTS).read_text())
        rows: list[dict[str, Any]] = [json.loads(line) for line in (directory / PROBABILITIES).read_text().splitlines()]
        labels = facts["labels"] if facts["role"] == "guardrail" else []
        of_responses = [row for row in rows if RESPONSE in row["labels"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{directory}: holds no guardrail of a run ({error!r}); give a directory such as runs/guards/guardrail_lst, with "
            f"{FACTS} and {PROBABILITIES}."
        ) from error
    if RESPONSE not in labels:
        raise ArtifactError(f"{directory}: reads no responses (its labels: {labels}); train one on data that labels responses.")
    tests = [row for row in of_responses if row["set"] not in (TRAIN, VALIDATION)]
    benign = [row["p"][RESPONSE] for row in of_responses if row["set"] == VALIDATION and row["labels"][RESPONSE] == 0]
    try:
        measured = auc([row["labels"][RESPONSE] for row in tests], [row["p"][RESPONSE] for row in tests], _RESAMPLES, _SEED)
        tau = calibrate(benign, false_positive_rate)
    except DataError as error:
        raise ArtifactError(
            f"{directory}: how good it is on responses is not known ({error}); give a guardrail whose run has labelled "
            "responses for validation and test."
        ) from error
    run = read_config(directory.parent / CONFIG)
    return Quality(tau, measured, sorted({row["set"] for row in tests}), run)
