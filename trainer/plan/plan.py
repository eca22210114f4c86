"""Put together what is known of a run before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.config.schema import DsaMethod, RunConfig, SafeSteerMethod, SlurmLauncher
from trainer.config.trl_fields import training_stages
from trainer.errors import ConfigError
from trainer.plan.devices import DEVICES, Device, usable
from trainer.plan.disk import Disk, disk_of, free_space
from trainer.plan.layout import layout_of
from trainer.plan.memory import Layout, Memory, estimate
from trainer.plan.schedule import Schedule, count_examples, schedule_of
from trainer.plan.shape import Shape, shape_of
from trainer.run import run_directory


@dataclass(frozen=True)
class StagePlan:
    """One training stage."""

    name: str
    layout: Layout
    memory: Memory
    schedule: Schedule
    disk: Disk


@dataclass(frozen=True)
class Plan:
    """device: what `launcher.gpu` names; None where it names nothing, and then nothing is said about fitting.
    base_bytes: of models that are written without training: a base of fresh weights, an exported teacher."""

    config: RunConfig
    run_dir: Path
    shape: Shape
    stages: list[StagePlan]
    device: Device | None
    disk_path: Path
    disk_free: int
    base_bytes: float

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
        """The seconds that Slurm gives, or None where nothing is signalled."""
        launcher = self.config.launcher
        return launcher.signal_lead if isinstance(launcher, SlurmLauncher) else None


def make_plan(config: RunConfig) -> Plan:
    """Raises ConfigError where the model's shape is not known or nothing is known of the method, and DataError where its data
    cannot be read."""
    if isinstance(config.method, DsaMethod):
        raise ConfigError("method: dsa has no plan: its stages train adapters beside a frozen base; plan another method.")
    shape = shape_of(config.model)
    device = None if config.launcher.gpu is None else DEVICES[config.launcher.gpu]
    examples = count_examples(config)
    stages = []
    for name in training_stages(config):
        layout = layout_of(config, name)
        stages.append(
            StagePlan(
                name,
                layout,
                estimate(shape, layout),
                schedule_of(config, name, shape, layout, examples[name], device),
                disk_of(config, name, shape, layout),
            )
        )
    run_dir = run_directory(config)
    path, free = free_space(run_dir)
    exported = isinstance(config.method, SafeSteerMethod) and config.method.export_teacher
    base = stages[0].disk.model * ((config.model.random_init is not None) + exported)
    return Plan(config, run_dir, shape, stages, device, path, free, base)
