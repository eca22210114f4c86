"""What a run left to talk to: its base, with the newest aligner and guardrail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.run import RunConfig
from trainer.errors import ArtifactError
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.inference import PROMPT
from trainer.methods.dsa.names import FACTS, guardrail_stage
from trainer.methods.dsa.section import DsaMethod
from trainer.models.fingerprint import base_fingerprint

UNCALIBRATED = 0.5  # tau of a guardrail that was given none


@dataclass(frozen=True)
class Left:
    """Attributes: adapters: their directories; the last of a kind counts. ramp: the width over which a guardrail turns
    alignment on."""

    adapters: list[Path]
    ramp: float


def left_by(config: RunConfig, run_dir: Path) -> Left:
    """The adapters of a run, the guardrail that targets its aligner last.

    Raises:
        ArtifactError: none is trained yet.
    """
    method = config.method
    assert isinstance(method, DsaMethod)
    facts = sorted([*run_dir.glob(f"*/{FACTS}"), *run_dir.glob(f"*/*/{FACTS}")], key=lambda path: path.stat().st_mtime)
    if not facts:
        raise ArtifactError(f"{run_dir}: no adapter is trained yet; let the run go on, or give the directory of another.")
    targeted = method.targeted
    gates = [] if targeted is None else [p for p in facts if p.parent.name == guardrail_stage(targeted.guardrail)]
    return Left([path.parent for path in [*facts, *gates]], 0.0 if targeted is None else targeted.ramp)


def load_adapters(directories: Sequence[Path], base: Any, path: str) -> tuple[Any, Any]:
    """The last aligner and the last guardrail of prompts among them; None where there is none."""
    found = [load(directory, base, base_fingerprint(path)) for directory in directories]
    aligners = [adapter for adapter in found if isinstance(adapter, Aligner)]
    guardrails = [adapter for adapter in found if not isinstance(adapter, Aligner) and PROMPT in adapter.labels]
    return aligners[-1] if aligners else None, guardrails[-1] if guardrails else None
