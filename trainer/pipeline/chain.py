"""Which stages a run has, in order, and what each one depends on."""

from __future__ import annotations

from trainer.config.depends import Depends
from trainer.config.run import RunConfig
from trainer.config.stage import Stage

EVALUATE = "evaluate"
_READ_BY_EVALUATION = ("method", "model", "generation", "judge", "judges", "evaluation")


def chain(config: RunConfig) -> list[Stage]:
    """The stages of this run, in order."""
    depends = Depends(config)
    stages = []
    if config.model.random_init is not None:
        made = depends.settings("model")
        stages.append(Stage("base", "trainer.models.fresh:run", (), made, depends.reads("model."), distributed=False))
    stages += config.method.stages(config, depends)
    if config.evaluation is not None:
        compared = tuple(stage.name for stage in stages if stage.compared)
        reads = depends.reads("model.", "method.", "evaluation.", "judge.", "judges.")
        stages.append(Stage(EVALUATE, "trainer.evaluation.stage:run", compared, depends.settings(*_READ_BY_EVALUATION), reads))
    return stages


def stage_named(config: RunConfig, name: str) -> Stage:
    """A stage of the run."""
    return next(stage for stage in chain(config) if stage.name == name)
