"""Several seeds of one experiment as one table: mean and 95% t-interval over seeds, for every model and metric.

python -m trainer -m experiment=cosalign run.name=seeds seed=0,1,2 launcher.processes=2
python benchmarks/over_seeds.py runs/seeds/*
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

METRICS = (
    "cosa_score/seen", "cosa_score/unseen", "helpful_safe/seen", "helpful_safe/unseen", "helpful_unsafe/seen",
    "helpful_unsafe/unseen", "asr", "over_refusal", "capability", "safety_gain", "alignment_tax",
)  # fmt: skip


def cell(values: list[float]) -> str:
    mean, spread = float(np.mean(values)), float(stats.sem(values)) if len(values) > 1 else 0.0
    half = spread * float(stats.t.ppf(0.975, len(values) - 1)) if len(values) > 1 else float("nan")
    return f"{mean:.3f} ±{half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    runs = [json.loads((run / "results.json").read_text()) for run in parser.parse_args().runs]
    seeds = sorted(run["provenance"]["seed"] for run in runs)
    commits = ", ".join(sorted({run["provenance"]["git_commit"] for run in runs}))
    metrics = [metric for metric in METRICS if any(metric in scores for scores in runs[0]["models"].values())]
    headings = [metric.replace("/", "\n").replace("_", " ") for metric in metrics]
    table = Table("model", *headings, title=f"seeds {seeds}, commit {commits}: mean ± 95% t-interval over seeds")
    for label in runs[0]["models"]:
        rows = [run["models"][label] for run in runs]
        table.add_row(
            label, *(cell([row[metric]["value"] for row in rows]) if metric in rows[0] else "-" for metric in metrics)
        )
    console = Console(width=150)
    console.print(table)
    areas = [name.split("/")[1:] for name in runs[0]["models"].get("base", {}) if name.startswith("guardrail_auc/")]
    if areas:
        sets = list(dict.fromkeys(of_set for _, of_set in areas))
        table = Table("guardrail", *sets, title="area under the ROC curve")
        for guardrail in dict.fromkeys(guardrail for guardrail, _ in areas):
            names = [f"guardrail_auc/{guardrail}/{of_set}" for of_set in sets]
            table.add_row(guardrail, *(cell([run["models"]["base"][name]["value"] for run in runs]) for name in names))
        console.print(table)


if __name__ == "__main__":
    main()
