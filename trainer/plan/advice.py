"""The smallest change that makes a run fit: candidates in the order of what they cost, each of them computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from trainer.config.devices import Device, usable
from trainer.config.load import load_config
from trainer.config.run import RunConfig, to_mapping
from trainer.config.stage import Training
from trainer.config.training import GLOBAL_BATCH, accumulation_steps, micro_batch_size, stage_fields
from trainer.config.zero import zero_stage
from trainer.errors import ConfigError
from trainer.plan.layout import layout_of
from trainer.plan.memory import estimate
from trainer.plan.shape import Shape, shape_of

MICRO = "per_device_train_batch_size"
ADAPTER_RANK = 16


@dataclass(frozen=True)
class Change:
    """overrides: to paste behind the command. config: what they make of it."""

    overrides: tuple[str, ...]
    config: RunConfig


Way = Callable[[Change], Iterator[Change]]


class _Judge:
    """Whether a changed config fits. The shape is counted once with an adapter and once without."""

    def __init__(self, device: Device):
        self.room = usable(device)
        self.shapes: dict[bool, Shape] = {}

    def fits(self, change: Change) -> bool:
        config = change.config
        adapted = config.model.lora is not None
        if adapted not in self.shapes:
            self.shapes[adapted] = shape_of(config.model)
        layouts = (layout_of(config, training) for training in config.training)
        return all(estimate(self.shapes[adapted], layout).peak <= self.room for layout in layouts)


def smallest_change(config: RunConfig, device: Device) -> Change | None:
    """The first candidate that fits: one change alone, then several at once; None where nothing helps."""
    judge, start = _Judge(device), Change((), config)
    alone: list[tuple[Way, ...]] = [
        (_cheaper_method,), (_smaller_batches,), (_checkpointing,), (_higher_stages,), (_sampling_from_shards,), (_offloads,),
        (_adapters,), (_more_gpus,),
    ]  # fmt: skip
    cheap = (_cheaper_method, _smallest_batch, _checkpointing)
    together: list[tuple[Way, ...]] = [
        cheap,
        (*cheap, _higher_stages),
        (*cheap, _higher_stages, _sampling_from_shards),
        (*cheap, _offloads),
        (*cheap, _offloads, _sampling_from_shards),
        (*cheap, _higher_stages, _adapters),
        (*cheap, _higher_stages, _more_gpus),
        (*cheap, _offloads, _sampling_from_shards, _more_gpus),
    ]
    candidates = (change for ways in (*alone, *together) for change in _all(start, ways))
    return next((change for change in candidates if judge.fits(change)), None)


def _all(start: Change, ways: Sequence[Way]) -> Iterator[Change]:
    """Every combination of one candidate of each way; a way that has none leaves the change as it is."""
    if not ways:
        yield start
        return
    found = list(ways[0](start))
    for change in found or [start]:
        yield from _all(change, ways[1:])


def _changed(before: Change, overrides: tuple[str, ...], edit: Callable[[dict[str, Any]], None]) -> Iterator[Change]:
    values = deepcopy(to_mapping(before.config))
    edit(values)
    try:
        config = load_config(values)
    except ConfigError:  # such as a global batch that does not divide
        return
    yield Change((*before.overrides, *overrides), config)


def _smaller_batches(before: Change) -> Iterator[Change]:
    """Half the micro batch, a quarter, ...: the same global batch in more micro-steps."""
    config, stages = before.config, before.config.training
    largest = max(micro_batch_size(config, stage) for stage in stages)
    factor = 2
    while factor <= largest:
        fields: dict[tuple[str, str], int] = {}
        for stage in stages:
            micro = max(1, micro_batch_size(config, stage) // factor)
            fields[_section(config, stage, MICRO), MICRO] = micro
            if not any(GLOBAL_BATCH in section for section in (config.trainer, config.section(stage.section))):
                name = "gradient_accumulation_steps"
                times = accumulation_steps(config, stage, config.launcher.world_size(stage.stage))
                fields[_section(config, stage, name), name] = times * micro_batch_size(config, stage) // micro

        def edit(values: dict[str, Any], fields: dict[tuple[str, str], int] = fields) -> None:
            for (section, name), value in fields.items():
                values[section][name] = value

        yield from _changed(before, tuple(f"{section}.{name}={value}" for (section, name), value in fields.items()), edit)
        factor *= 2


def _smallest_batch(before: Change) -> Iterator[Change]:
    yield from list(_smaller_batches(before))[-1:]


def _section(config: RunConfig, stage: Training, name: str) -> str:
    """Where a field stands that is set, or would be set for every stage."""
    return stage.section if name in config.section(stage.section) else "trainer"


def _checkpointing(before: Change) -> Iterator[Change]:
    stages = [s for s in before.config.training if not layout_of(before.config, s).checkpointing]
    if not stages:
        return
    name = "gradient_checkpointing"
    sections = {_section(before.config, stage, name) for stage in stages}

    def edit(values: dict[str, Any]) -> None:
        for section in sections:
            values[section][name] = True

    yield from _changed(before, tuple(f"{section}.{name}=true" for section in sorted(sections)), edit)


def _group(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((files("trainer.conf") / "deepspeed" / f"{name}.yaml").read_text())
    return loaded


def _deepspeed(before: Change, name: str) -> Iterator[Change]:
    group = _group(name)

    def edit(values: dict[str, Any]) -> None:
        own = values["deepspeed"] or {}
        zero = {**(own.get("zero_optimization") or {}), **group["zero_optimization"]}
        values["deepspeed"] = {**own, **group, "zero_optimization": zero}

    yield from _changed(before, (f"deepspeed={name}",), edit)


def _higher_stages(before: Change) -> Iterator[Change]:
    for stage in range((zero_stage(before.config) or 0) + 1, 4):
        yield from _deepspeed(before, f"zero{stage}")


def _offloads(before: Change) -> Iterator[Change]:
    if zero_stage(before.config) != 3:
        yield from _deepspeed(before, "zero2_offload")
    yield from _deepspeed(before, "zero3_offload")


def _cheaper_method(before: Change) -> Iterator[Change]:
    """What the method itself can do with less memory and the same result."""
    cheaper = before.config.method.cheaper(before.config)
    if not cheaper:
        return

    def edit(values: dict[str, Any]) -> None:
        values["method"].update(cheaper)

    yield from _changed(before, tuple(f"method.{key}={value}" for key, value in cheaper.items()), edit)


def _sampling_from_shards(before: Change) -> Iterator[Change]:
    """Stage 3 fetches a layer's weights for every token, instead of all weights once."""
    sampling = [s for s in before.config.training if (r := layout_of(before.config, s).rollout) is not None and r.gathers]
    if not sampling:
        return
    name = "ds3_gather_for_generation"
    section = "trainer" if name in before.config.trainer else sampling[0].section

    def edit(values: dict[str, Any]) -> None:
        values[section][name] = False

    yield from _changed(before, (f"{section}.{name}=false",), edit)


def _adapters(before: Change) -> Iterator[Change]:
    if before.config.model.lora is not None:
        return
    if any(stage_fields(before.config, s).get("precompute_ref_log_probs") for s in before.config.training):
        return  # the reference of a LoRA run is the model with its adapter switched off

    def edit(values: dict[str, Any]) -> None:
        values["model"]["lora"] = {"r": ADAPTER_RANK}

    for change in _changed(before, (f"model.lora.r={ADAPTER_RANK}",), edit):
        yield from _all(change, (_cheaper_method,))


def _more_gpus(before: Change) -> Iterator[Change]:
    launcher = before.config.launcher
    key = launcher.more
    for factor in (2, 4, 8):
        value = getattr(launcher, key) * factor

        def edit(values: dict[str, Any], value: int = value) -> None:
            values["launcher"][key] = value

        yield from _changed(before, (f"launcher.{key}={value}",), edit)
