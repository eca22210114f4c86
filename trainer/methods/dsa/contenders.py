"""A frozen base with the adapters that a run has trained, as one of the models that its evaluation compares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.errors import ArtifactError
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.inference import AlignedModel
from trainer.methods.dsa.names import ALIGNER_STAGE, GUARDRAIL_ONLY, guardrail_stage, strength_of
from trainer.methods.dsa.refusing import RefusingModel
from trainer.methods.dsa.section import DsaMethod
from trainer.models.fingerprint import base_fingerprint
from trainer.pipeline.context import StageContext


@contextmanager
def made_of_base(
    label: str, context: StageContext, base: Any, base_path: str, tokenizer: Any
) -> Iterator[AlignedModel | RefusingModel]:
    """The model called `label`, which generates as the base does.

    Args:
        base: on its device.

    Raises:
        ArtifactError: an adapter is missing or damaged, or of another base.
    """
    method = context.config.method
    assert isinstance(method, DsaMethod)
    yield _contender(label, method, context.run_dir, base, base_fingerprint(base_path), tokenizer)


def _contender(
    label: str, method: DsaMethod, run_dir: Path, base: Any, fingerprint: str, tokenizer: Any
) -> AlignedModel | RefusingModel:
    if (strength := strength_of(label)) is not None:
        return AlignedModel(base, _aligner(run_dir, base, fingerprint), strength=strength)
    targeted = method.targeted
    assert targeted is not None  # only then it is compared
    guardrail = load(run_dir / guardrail_stage(targeted.guardrail), base, fingerprint)
    assert isinstance(guardrail, Guardrail) and guardrail.tau is not None
    gate = Gate(guardrail.tau, targeted.maximum, targeted.ramp)
    if label == GUARDRAIL_ONLY:
        reply = tokenizer(targeted.refusal, add_special_tokens=False)["input_ids"]
        return RefusingModel(base, guardrail, gate.threshold, reply)
    return AlignedModel(base, _aligner(run_dir, base, fingerprint), guardrail, gate)


def _aligner(run_dir: Path, base: Any, fingerprint: str) -> Aligner:
    directory = run_dir / ALIGNER_STAGE
    aligner = load(directory, base, fingerprint)
    if not isinstance(aligner, Aligner):
        raise ArtifactError(f"{directory}: holds a guardrail in place of the aligner; delete it to train the aligner again.")
    return aligner
