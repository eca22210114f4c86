"""What is put onto the base to be compared with it, one at a time; the base is as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError

from trainer.config.load import read_config
from trainer.errors import ArtifactError
from trainer.methods.dsa.gate import Gate
from trainer.methods.dsa.inference import AlignedModel, Strength
from trainer.methods.dsa.section import DsaMethod
from trainer.methods.dsa.talk import UNCALIBRATED, Left, left_by, load_adapters
from trainer.methods.safegene.contenders import expressing
from trainer.methods.safegene.gene import Gene
from trainer.methods.untrained.found import Found, found_at
from trainer.methods.untrained.section import UntrainedMethod
from trainer.models.low_rank import ADAPTER_WEIGHTS
from trainer.models.weights import Weights, other_weights
from trainer.pipeline.context import StageContext


@contextmanager
def made_of_base(name: str, context: StageContext, base: Any, base_path: str, tokenizer: Any) -> Iterator[Any]:
    """The model that `method.models` has by this name.

    Args:
        base: on its device.

    Raises:
        ArtifactError: what is put onto the base is missing or damaged, or does not fit it.
        ConfigError: the config of a run cannot be read.
    """
    method = context.config.method
    assert isinstance(method, UntrainedMethod)
    path = Path(method.models[name]).expanduser()
    match found_at(str(path)):
        case Found.GENE:
            gene = Gene.load(path)
            gene.check(base, tokenizer)
            with other_weights(base, Weights(base_path), expressing(gene.kept(), dict.fromkeys(gene.layers, 1.0))) as made:
                yield made
        case Found.LORA:
            with _with_lora(path, base) as made:
                yield made
        case Found.ALIGNER:
            yield _aligned(Left([path], 0.0), path, method, base, base_path)
        case _:
            run = read_config(path / Found.RUN.value)
            if not isinstance(run.method, DsaMethod):
                raise ArtifactError(
                    f"method.models.{name}: {path} is a run of method={run.method.name}; give the model of one of its stages: "
                    f"{path}/STAGE/model."
                )
            yield _aligned(left_by(run, path), path, method, base, base_path)


@contextmanager
def _with_lora(path: Path, base: Any) -> Iterator[Any]:
    if not (path / ADAPTER_WEIGHTS).exists():
        raise ArtifactError(f"{path}: the adapter has no {ADAPTER_WEIGHTS}; weights are read as safetensors only.")
    try:
        wrapped = PeftModel.from_pretrained(base, str(path)).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{path}: the adapter cannot be put onto model.path: {error}; give the model that it is of."
        ) from error
    try:
        yield wrapped
    finally:
        wrapped.unload()


def _aligned(left: Left, where: Path, method: UntrainedMethod, base: Any, base_path: str) -> AlignedModel:
    aligner, guardrail = load_adapters(left.adapters, base, base_path)
    if aligner is None:
        raise ArtifactError(f"{where}: holds no aligner, and guardrails alone answer as their base does; give an aligner's.")
    strength: Strength = method.strength
    if method.targeted:
        if guardrail is None:
            raise ArtifactError(
                f"{where}: method.targeted needs a guardrail of prompts, and there is none; give a run that has one."
            )
        strength = Gate(UNCALIBRATED if guardrail.tau is None else guardrail.tau, method.strength, left.ramp)
    return AlignedModel(base, aligner, guardrail, strength)
