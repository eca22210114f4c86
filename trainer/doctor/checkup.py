"""Start the examination on the ranks of a config, and read what it found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trainer.config.run import RunConfig
from trainer.doctor.checks import Finding
from trainer.doctor.examination import REPORT
from trainer.doctor.preflight import DOCTOR
from trainer.errors import KeelError
from trainer.pipeline.work import TICKET
from trainer.record import write_json

FINDINGS = "findings.json"  # in the run directory: what a job found, for whoever submitted it


def examine(config: RunConfig, run_dir: Path) -> list[Finding]:
    """Run stage `doctor` from here: on this machine, or on the nodes of the allocation around this process."""
    stage_dir = run_dir / DOCTOR
    stage_dir.mkdir(parents=True, exist_ok=True)
    write_json(stage_dir / TICKET, {"fingerprint": DOCTOR, "inputs": {}})
    try:
        config.launcher.start(run_dir, DOCTOR, True)
    except KeelError as error:
        return [Finding("start", str(error), f"see the ranks' logs in {stage_dir / 'logs'}")]
    return read_findings(stage_dir / REPORT)


def read_findings(path: Path) -> list[Finding]:
    return [Finding(**entry) for entry in json.loads(path.read_text())]


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    write_json(path, [asdict(finding) for finding in findings])
