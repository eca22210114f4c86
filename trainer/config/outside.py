"""What a run reads from outside its own directory."""

from __future__ import annotations

from trainer.config.schema import (
    CosalignTestEvaluation,
    InstructionData,
    LabelledData,
    PromptsEvaluation,
    RunConfig,
    SafeSteerMethod,
)


def outside(config: RunConfig) -> dict[str, str]:
    """Config key -> path or hub name, as the user wrote it; `sandbox` is the base that ships with the package."""
    data, evaluation, method = config.data, config.evaluation, config.method
    named: dict[str, str | None] = {"model.path": config.model.path, "model.tokenizer": config.model.tokenizer}
    if isinstance(data, InstructionData):
        named |= {"data.harmful": data.harmful, "data.harmless": data.harmless, "data.prompts": data.prompts}
    else:
        named["data.path"] = data.path
    if isinstance(data, LabelledData):
        named |= {f"data.tests.{name}": path for name, path in data.tests.items()}
        named["data.preferences.path"] = data.preferences.path if data.preferences is not None else None
    if isinstance(method, SafeSteerMethod):
        named |= {"method.direction.path": method.direction.path, "method.tokens.path": method.tokens.path}
    if isinstance(evaluation, CosalignTestEvaluation):
        named["evaluation.path"] = evaluation.path
    if isinstance(evaluation, PromptsEvaluation):
        named |= {f"evaluation.attacks.{name}": path for name, path in evaluation.attacks.items()}
        named |= {f"evaluation.benign.{name}": path for name, path in evaluation.benign.items()}
    if evaluation is not None and config.judge.name == "model":
        named["judge.path"] = config.judge.path
    return {key: path for key, path in named.items() if path is not None}
