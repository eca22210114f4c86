"""Put together what is known of a run before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.config.run import RunConfig
from trainer.config.stage import Training
from trainer.doctor.present import missing
from trainer.errors import ConfigError
from trainer.pipeline.run import run_directory
from trainer.plan.devices import DEVICES, Device, usable
from trainer.plan.disk import Disk, disk_of, free_space
from trainer.plan.layout import layout_of
from trainer.plan.memory import Layout, Memory, estimate
from trainer.plan.schedule import Schedule, schedule_of
from trainer.plan.shape import Shape, shape_of


@dataclass(frozen=True)
class StagePlan:
    """One training stage. name: as it is shown; several that are alike are shown as one."""

    name: str
    training: Training
    layout: Layout
    memory: Memory
    schedule: Schedule
    disk: Disk


@dataclass(frozen=True)
class Plan:
    """device: what `launcher.gpu` names; None where it names nothing, and then nothing is said about fitting.
    base_bytes: of models that are written without training: a base of fresh weights, an exported teacher.
    lacking: `key: name` of what the run reads and this machine does not have."""

    config: RunConfig
    run_dir: Path
    shape: Shape
    stages: list[StagePlan]
    device: Device | None
    disk_path: Path
    disk_free: int
    base_bytes: float
    lacking: list[str]

    @property
    def disk_needed(self) -> float:
        return self.base_bytes + sum(stage.disk.total for stage in self.stages)

    @property
    def too_large(self) -> list[StagePlan]:
        """Stages whose peak is more than the device gives."""
        if self.device is None:
            return []
        room = usable(self.device)
        return [stage for stage in self.stages if stage.memory.peak > room]

    @property
    def fits(self) -> bool:
        return not self.too_large and self.disk_needed <= self.disk_free

    def lead_needed(self) -> float | None:
        """Seconds for the longest step and a save after it; None where a step's time is not known."""
        times = [s.schedule.step_seconds + s.disk.save_seconds for s in self.stages if s.schedule.step_seconds is not None]
        return max(times, default=None)

    @property
    def lead(self) -> int | None:
        """The seconds that the launcher gives, or None where nothing is signalled."""
        return self.config.launcher.signalled_before


def make_plan(config: RunConfig) -> Plan:
    """Raises ConfigError where the model's shape is not known, nothing is known of the method, or it trains nothing, and
    DataError where its data cannot be read."""
    if not config.training:
        raise ConfigError(f"method: method={config.method.name} trains nothing, so there is nothing to plan; start it.")
    shape = shape_of(config.model)
    device = None if config.launcher.gpu is None else DEVICES[config.launcher.gpu]
    layouts = [layout_of(config, training) for training in config.training]  # first: a method may know nothing of them
    examples = config.method.examples(config)
    stages = []
    for training, layout in zip(config.training, layouts, strict=True):
        schedule = schedule_of(config, training, shape, layout, examples[training.stage], device)
        disk = disk_of(config, training, shape, layout, schedule.steps)
        stages.append(StagePlan(training.stage, training, layout, estimate(shape, layout), schedule, disk))
    run_dir = run_directory(config)
    path, free = free_space(run_dir)
    untrained = (config.model.random_init is not None) + config.method.written_models()
    base = stages[0].disk.model * untrained
    return Plan(config, run_dir, shape, stages, device, path, free, base, missing(config))
