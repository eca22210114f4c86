"""The plan as tables of at most 100 columns."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.config.devices import CONTEXT, DEVICES, FRAGMENTATION, GIB, usable
from trainer.config.training import stage_fields
from trainer.pipeline.chain import chain
from trainer.plan.advice import smallest_change
from trainer.plan.differences import differences
from trainer.plan.disk import WRITE_RATE
from trainer.plan.layout import UNLIMITED_LENGTH
from trainer.plan.memory import PARTS
from trainer.plan.plan import Plan, StagePlan
from trainer.plan.schedule import UTILISATION

WIDTH = 100
PER_EXAMPLES = 10_000  # what steps are counted for where the number of examples is not known


def print_plan(plan: Plan) -> None:
    """All of it, the verdict last."""
    console = Console(width=WIDTH, highlight=False)
    _differences(plan, console)
    _scripts(plan, console)
    _model(plan, console)
    shown = _alike(plan.stages)
    for stage in shown:
        _memory(plan, stage, console)
    _schedule(plan, shown, console)
    _disk(plan, shown, console)
    _lacking(plan, console)
    _verdict(plan, console)


def _alike(stages: Sequence[StagePlan]) -> list[StagePlan]:
    """One for all stages of a kind (ablations) whose schedules and results are the same: the one that needs most memory."""
    kinds: dict[Hashable, list[StagePlan]] = {}
    for stage in stages:
        kinds.setdefault((stage.training.section, stage.schedule, stage.disk), []).append(stage)
    shown = []
    for members in kinds.values():
        largest = max(members, key=lambda stage: stage.memory.peak)
        name = f"each of {len(members)} {largest.training.section} stages" if len(members) > 1 else largest.name
        shown.append(replace(largest, name=name))
    return shown


def _table(console: Console, title: str, first: str, *columns: str) -> Table:
    """A table whose numbers are right-aligned, below its title (rich would wrap the title to the table's width)."""
    console.print(f"\n[bold]{title}[/bold]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _differences(plan: Plan, console: Console) -> None:
    console.print("[bold]Non-default settings[/bold]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("key", "value", "default"):
        table.add_column(column, overflow="fold")
    for row in differences(plan.config):
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _scripts(plan: Plan, console: Console) -> None:
    scheduler = plan.config.launcher.scheduler
    if scheduler is None:
        return
    for name, text in scheduler.script(plan.config, plan.run_dir.absolute(), chain(plan.config)).items():
        console.print(f"\n[bold]{escape(str(plan.run_dir / name))}[/bold]")
        console.print(text.rstrip(), markup=False, soft_wrap=True)


def _model(plan: Plan, console: Console) -> None:
    shape = plan.shape
    trained = "all of them trained" if shape.trainable == shape.parameters else f"{shape.trainable:,} trained"
    console.print(f"\n[bold]Model[/bold]  {shape.parameters:,} parameters, {trained} (counted, from {escape(shape.source)})")


def _memory(plan: Plan, stage: StagePlan, console: Console) -> None:
    layout, memory = stage.layout, stage.memory
    zero = "no DeepSpeed" if layout.zero is None else f"ZeRO-{layout.zero}"
    recomputed = ", gradient checkpointing" if layout.checkpointing else ""
    rank = "GPU" if layout.on_gpu else "process"
    ranks = "1 rank" if layout.world == 1 else f"{layout.world} ranks"
    table = _table(
        console,
        f"Memory per {rank} in {stage.name}, GiB: {zero}, {ranks}, micro batch {layout.micro_batch} "
        f"x {layout.sequences * layout.length} tokens{recomputed}",
        "part",
        *(f"at {moment}" for moment in memory.moments),
    )
    for part in PARTS:
        sizes = [parts[part] for parts in memory.moments.values()]
        if any(sizes):
            table.add_row(part, *(f"{size / GIB:.2f}" for size in sizes))
    peak = memory.peak_moment
    totals = {moment: f"{memory.total(moment) / GIB:.2f}" for moment in memory.moments}
    table.add_row(
        "[bold]sum[/bold]",
        *(f"[bold]{total}[/bold]" if moment == peak else total for moment, total in totals.items()),
    )
    console.print(table)
    console.print(_room(plan, stage))
    if layout.rollout is not None:
        console.print(f"at rollout a {rank} samples its {layout.rollout.samples} sequences of a step in one batch.")
    if memory.host:
        console.print(f"in CPU memory per rank: {memory.host / GIB:.2f} GiB; a node needs that for each of its ranks.")


def _room(plan: Plan, stage: StagePlan) -> str:
    peak, gpu = stage.memory.peak / GIB, plan.config.launcher.gpu
    if plan.device is None:
        if not stage.layout.on_gpu:
            return f"peak {peak:.2f} GiB per process."
        return f"peak {peak:.2f} GiB. Whether that fits: set launcher.gpu to one of {', '.join(DEVICES)}."
    room = usable(plan.device) / GIB
    verdict = "[green]fits[/green]" if peak <= room else "[red]does not fit[/red]"
    return (
        f"peak {peak:.2f} GiB, {verdict} {gpu}: {room:.1f} GiB usable of {plan.device.memory} "
        f"(assumed: {CONTEXT / GIB} GiB for CUDA and NCCL, {FRAGMENTATION:.0%} fragmentation)."
    )


def _schedule(plan: Plan, stages: Sequence[StagePlan], console: Console) -> None:
    unknown = any(stage.schedule.steps is None for stage in stages)
    table = _table(console, "Schedule", "", *(stage.name for stage in stages))
    schedules = [stage.schedule for stage in stages]
    rollouts = [stage.layout.rollout for stage in stages if stage.layout.rollout is not None]
    table.add_row("world size", *(str(s.world) for s in schedules))
    table.add_row(
        "global batch = micro x accumulation x world",
        *(f"{s.schedule.global_batch} = {s.layout.micro_batch} x {s.schedule.accumulation} x {s.layout.world}" for s in stages),
    )
    table.add_row("examples per epoch, at most", *("unknown" if s.examples is None else f"{s.examples:,}" for s in schedules))
    table.add_row("steps", *("unknown" if s.steps is None else f"{s.steps:,}" for s in schedules))
    table.add_row("tokens per step, at most", *(f"{s.step_tokens:,}" for s in schedules))
    table.add_row("tokens, at most", *("unknown" if s.steps is None else f"{s.steps * s.step_tokens:,}" for s in schedules))
    if unknown:
        table.add_row(
            f"steps for every {PER_EXAMPLES:,} examples and epoch",
            *(f"{math.ceil(PER_EXAMPLES / s.global_batch):,}" for s in schedules),
        )
    table.add_row("seconds per step, estimated", *(_seconds(s.step_seconds) for s in schedules))
    if rollouts:
        table.add_row("of these, sampling", *(_seconds(s.sampling_seconds) for s in schedules))
    table.add_row("time, estimated", *(duration(s.seconds) for s in schedules))
    console.print(table)
    if plan.device is not None:
        others = "".join(f"{name}, " for name in plan.config.method.untrained(plan.config) if name != "data")
        console.print(
            f"assumed: {UTILISATION:.0%} of {plan.device.tflops:,.0f} TFLOPS (bfloat16), every sequence of full length; "
            f"{others}evaluation and loading come on top."
        )
    if plan.device is not None and rollouts:
        shards = any(stage.layout.zero == 3 for stage in stages) and not any(rollout.gathers for rollout in rollouts)
        console.print(
            f"assumed of sampling: every token reads the weights from memory once, at {plan.device.bandwidth:,.0f} GB/s; the "
            f"least it can take{', and here they come from all ranks every time' if shards else ''}."
        )
    if unknown:
        console.print("the data is not on this machine: data.path=<a local copy> gives the number of examples.")
    if any(stage_fields(plan.config, s.training).get("max_length", 0) is None for s in plan.stages):
        console.print(f"max_length is null: planned with {UNLIMITED_LENGTH} tokens.")


def _seconds(value: float | None) -> str:
    return "set launcher.gpu" if value is None else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _disk(plan: Plan, stages: Sequence[StagePlan], console: Console) -> None:
    table = _table(console, "Disk, GiB", "", *(stage.name for stage in stages))
    disks = [stage.disk for stage in stages]
    table.add_row("one checkpoint", *(f"{d.checkpoint / GIB:.2f}" for d in disks))
    table.add_row("x (kept + the one being written)", *(f"{d.keep} + 1" for d in disks))
    table.add_row("the trained model", *(f"{d.model / GIB:.2f}" for d in disks))
    table.add_row("sum", *(f"{d.total / GIB:.2f}" for d in disks))
    console.print(table)
    verdict = "[green]enough[/green]" if plan.disk_needed <= plan.disk_free else "[red]not enough[/red]"
    needed, free = f"{plan.disk_needed / GIB:.2f} GiB in all", f"{plan.disk_free / GIB:.2f} GiB free"
    console.print(f"{needed}, {free} at {escape(str(plan.disk_path))}: {verdict}.")


def _lacking(plan: Plan, console: Console) -> None:
    """What a run on this machine would miss, or download."""
    if plan.lacking:
        what = ", ".join(escape(one) for one in plan.lacking)
        console.print(f"\n[bold]Not on this machine[/bold]  {what}; python -m trainer.fetch brings it to paths.mirror.")


def _verdict(plan: Plan, console: Console) -> None:
    console.print()
    if plan.lead is not None:
        console.print(_lead(plan))
    if plan.disk_needed > plan.disk_free:
        fewer = plan.base_bytes + sum(replace(stage.disk, keep=1).total for stage in plan.stages)
        less = ", or trainer.save_total_limit=1, which is enough" if fewer <= plan.disk_free else ""
        console.print(
            f"[red]The disk is too small[/red]: paths.runs=<a file system with {plan.disk_needed / GIB:.0f} GiB free>{less}."
        )
    if plan.too_large and plan.device is not None:
        change = smallest_change(plan.config, plan.device)
        if change is None:
            console.print("[red]Nothing that was tried makes it fit[/red]: a smaller model, or a GPU with more memory.")
        else:
            console.print(f"[bold]The smallest change that fits:[/bold] {' '.join(change.overrides)}")


def _lead(plan: Plan) -> str:
    needed, lead = plan.lead_needed(), plan.lead
    save = max(stage.disk.save_seconds for stage in plan.stages)
    rate = f"at an assumed {WRITE_RATE / GIB:.0f} GiB/s"
    if needed is None:
        return f"Signal lead: {lead} s; a save takes about {save:.0f} s ({rate}), a step is unknown without launcher.gpu."
    if lead is not None and needed <= lead:
        return f"Signal lead: {lead} s [green]covers[/green] one step and one save, about {needed:.0f} s ({rate})."
    return (
        f"Signal lead: {lead} s [red]does not cover[/red] one step and one save, about {needed:.0f} s ({rate}): "
        f"launcher.signal_lead={math.ceil(needed * 1.5 / 60) * 60}"
    )
