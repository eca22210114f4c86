"""What a run is. Everything else about a config is in the sections that it is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from trainer.config.bases import DataSection, JudgeSection, LauncherSection, MethodSection, SuiteSection
from trainer.config.section import OneOf
from trainer.config.sections import (
    GenerationSection,
    ModelSection,
    PathsSection,
    RunSection,
    SurvivalSection,
    TrackingSection,
)
from trainer.config.stage import Training
from trainer.record import write_private


@dataclass(frozen=True)
class RunConfig:
    """Everything a run is made of. Written to `config.yaml` in the run directory; every rank reads that file.

    `trainer/kinds.py` adds a section for each kind of training stage that a method has (`sft`, `dpo`, ...). These, `trainer`
    and `deepspeed` are other libraries' vocabularies and pass through under their own names; `training.py` and `zero.py` say
    what may be in them.

    trainer: TRL/Transformers fields for every training stage; the others are for that kind of stage alone.
    deepspeed: DeepSpeed's JSON, less what is derived from the trainer fields; null trains without DeepSpeed.
    evaluation: null leaves it out.
    judges: name -> a further judge, beside the one whose numbers stand in the table.
    """

    run: RunSection
    method: Annotated[MethodSection, OneOf("method")]
    model: ModelSection
    data: Annotated[DataSection, OneOf("data")]
    launcher: Annotated[LauncherSection, OneOf("launcher")]
    judge: Annotated[JudgeSection, OneOf("judge")]
    judges: dict[str, Annotated[JudgeSection, OneOf("judge")]] = field(default_factory=dict)
    seed: Annotated[int, Field(ge=0)] = 0
    paths: PathsSection = field(default_factory=PathsSection)
    trainer: dict[str, Any] = field(default_factory=dict)
    deepspeed: dict[str, Any] | None = None
    survival: SurvivalSection = field(default_factory=SurvivalSection)
    generation: GenerationSection = field(default_factory=GenerationSection)
    evaluation: Annotated[SuiteSection, OneOf("evaluation")] | None = None
    tracking: TrackingSection = field(default_factory=TrackingSection)

    @property
    def judges_by_key(self) -> dict[str, JudgeSection]:
        """Key of the config -> judge; the main one first."""
        return {"judge": self.judge, **{f"judges.{name}": judge for name, judge in self.judges.items()}}

    @property
    def training(self) -> tuple[Training, ...]:
        """The stages that train, in order."""
        return self.method.training(self)

    def section(self, name: str) -> dict[str, Any]:
        """The fields of one kind of training stage, as the user set them."""
        fields: dict[str, Any] = getattr(self, name)
        return fields


WITHHELD = "(withheld)"  # stands for the value of a variable that may be a secret


def to_mapping(config: RunConfig) -> dict[str, Any]:
    """As it may be written and shown, and as it is read again: YAML knows no tuples."""
    values: dict[str, Any] = _listed(asdict(config))
    for key in config.launcher.withheld:
        values["launcher"][key] = dict.fromkeys(values["launcher"][key], WITHHELD)
    return values


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def write_config(config: RunConfig, path: Path) -> None:
    """For its owner alone to read and to write, whoever wrote a file of this name before."""
    write_private(path, yaml.safe_dump(to_mapping(config), sort_keys=False))


def plain_yaml(text: str) -> Any:
    """What a run's config holds. Others may have written it, so it is read without what a few lines can blow up.

    Raises:
        yaml.YAMLError: it is no YAML, has aliases, or is nested too deeply.
    """
    try:
        return yaml.load(text, _WithoutAliases)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


class _WithoutAliases(yaml.SafeLoader):
    """Nine aliases of nine aliases of ... are billions of values in a few lines. A config of ours has none."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name), which no run's config has")
        return super().compose_node(parent, index)


# keys that begin so name a dataset; others of `outside` a model, or what a run left
DATASETS = ("data.", "evaluation.", "method.rehearsal.")


def outside(config: RunConfig) -> dict[str, str]:
    """What the run reads from outside its own directory: config key -> path or hub name, as the user wrote it; `sandbox` is a
    base that ships with the package."""
    named: dict[str, str | None] = {"model.path": config.model.path, "model.tokenizer": config.model.tokenizer}
    sections = {"data": config.data.reads(), "method": config.method.reads()}
    if config.evaluation is not None:
        sections |= {"evaluation": config.evaluation.reads()}
        sections |= {key: judge.reads() for key, judge in config.judges_by_key.items()}
    named |= {f"{section}.{key}": path for section, keys in sections.items() for key, path in keys.items()}
    return {key: path for key, path in named.items() if path is not None}
