"""A frozen base with the adapters that a run has trained, as one of the models that its evaluation compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config.schema import DsaMethod
from trainer.errors import ArtifactError
from trainer.evaluation.items import DSA_STRENGTH, GUARDRAIL_ONLY
from trainer.methods.dsa.aligner import Aligner
from trainer.methods.dsa.artifact import load
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.guarded import GuardedModel
from trainer.methods.dsa.guardrail import Guardrail
from trainer.methods.dsa.inference import AlignedModel
from trainer.methods.dsa.stage_align import ALIGNER_STAGE


def contender_of(
    label: str, method: DsaMethod, run_dir: Path, base: Any, base_fingerprint: str, tokenizer: Any
) -> AlignedModel | GuardedModel:
    """The model called `label`, which generates as the base does.

    Args:
        base: on its device.

    Raises:
        ArtifactError: an adapter is missing or damaged, or of another base.
    """
    if label.startswith(DSA_STRENGTH):
        return AlignedModel(base, _aligner(run_dir, base, base_fingerprint), strength=float(label.removeprefix(DSA_STRENGTH)))
    targeted = method.targeted
    assert targeted is not None  # only then it is compared
    guardrail = load(run_dir / f"guardrail_{targeted.guardrail}", base, base_fingerprint)
    assert isinstance(guardrail, Guardrail) and guardrail.tau is not None
    gate = Gate(guardrail.tau, targeted.maximum, targeted.ramp)
    if label == GUARDRAIL_ONLY:
        reply = tokenizer(targeted.refusal, add_special_tokens=False)["input_ids"]
        return GuardedModel(base, guardrail, gate.threshold, reply)
    return AlignedModel(base, _aligner(run_dir, base, base_fingerprint), guardrail, gate)


def _aligner(run_dir: Path, base: Any, base_fingerprint: str) -> Aligner:
    directory = run_dir / ALIGNER_STAGE
    aligner = load(directory, base, base_fingerprint)
    if not isinstance(aligner, Aligner):
        raise ArtifactError(f"{directory}: holds a guardrail in place of the aligner; delete it to train the aligner again.")
    return aligner
