"""What stages and models are called."""

from __future__ import annotations

from typing import Literal

ALIGNED, DEGRADE, MEASURE, GENE, SELECT, SAFETY = "aligned", "degrade", "measure", "gene", "select", "safety"
DIRECTIONS = "safety_directions"
ON_ALIGNED = "on_aligned"  # the gene distilled on the aligned model itself
ON_ALIGNED_STAGE = f"{GENE}_{ON_ALIGNED}"

Choice = Literal["contrast", "weight_norm", "random", "bottom", "all"]  # of layers
Control = Literal["alpha_one", "global_alpha", "random", "bottom", "all", "weight_norm", "on_aligned"]
Baseline = Literal["resta", "safelora", "safemerge", "salora", "safety_tuning"]
RECALIBRATED = ("global_alpha", "random", "bottom", "all", "weight_norm")  # controls with scalars of their own
OWN = "safegene"
NONE = "none"
GATED = "safegene_gated"
MEAN = "mean"  # in place of a task: means over the tasks


def task_stage(task: str) -> str:
    return f"task_{task}"


def recalibrate_stage(task: str, control: str = "") -> str:
    return f"recalibrate_{task}" + (f"_{control}" if control else "")


def tuned_stage(task: str) -> str:
    """Safety fine-tuning of a task model."""
    return f"safety_{task}"


def salora_stage(task: str) -> str:
    return f"salora_{task}"


def merge_stage(task: str) -> str:
    return f"merge_{task}"


def label(task: str, method: str) -> str:
    """Of a row of the results."""
    return f"{task}/{method}"
