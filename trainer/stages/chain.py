"""Which stages a run has, in order, and what each one depends on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.check import SANDBOX, looks_local
from trainer.config.load import to_mapping
from trainer.config.schema import RunConfig
from trainer.config.trl_fields import STAGE_SECTIONS
from trainer.doctor import examination
from trainer.doctor.preflight import DOCTOR
from trainer.sandbox import BASE_DIR
from trainer.stages import base, data, dpo, evaluate, sft
from trainer.stages.context import StageContext
from trainer.stages.manifest import fingerprint_path, write_manifest


@dataclass(frozen=True)
class Stage:
    """One link of the chain.

    Attributes:
        name: also the stage's directory in the run directory.
        work: does it, on every rank; returns the files to vouch for (on rank 0).
        after: the stages whose artifacts it reads.
        settings: the part of the config it depends on; a change elsewhere does not redo it.
        reads: config key -> path of what it reads from outside the run; its content counts.
        distributed: whether it runs on all processes or on one.
        trains: whether it leaves checkpoints and resumes from them.
    """

    name: str
    work: Callable[[StageContext], list[Path]]
    after: tuple[str, ...]
    settings: dict[str, Any]
    reads: dict[str, str]
    distributed: bool = True
    trains: bool = False

    def inputs(self, finished: dict[str, str]) -> dict[str, str]:
        """Fingerprints of everything it reads. `finished`: the fingerprints of the stages before it."""
        found = {name: finished[name] for name in self.after}
        for key, path in self.reads.items():
            found[key] = fingerprint_path(Path(path)) if Path(path).exists() else path
        return found

    def run(self, context: StageContext) -> None:
        """Do the work and, when all ranks have, write the manifest."""
        started = time.monotonic()
        outputs = self.work(context)
        context.barrier()
        if context.is_main:
            ticket = json.loads((context.stage_dir / TICKET).read_text())
            write_manifest(
                context.stage_dir,
                fingerprint=ticket["fingerprint"],
                inputs=ticket["inputs"],
                config=self.settings,
                seed=context.config.seed,
                world_size=context.world_size,
                seconds=time.monotonic() - started,
                outputs=outputs,
            )


TICKET = "ticket.json"  # the fingerprints a stage was started with; its manifest repeats them when it has finished


def chain(config: RunConfig) -> list[Stage]:
    """The stages of this run, in order."""
    values = to_mapping(config)
    del values["model"]["shape"]  # only `plan` reads it

    def settings(*sections: str, **others: Any) -> dict[str, Any]:
        return {"seed": config.seed, **{name: values[name] for name in sections}, **others}

    training = STAGE_SECTIONS[config.method.name]
    tokenizer = _outside("model.tokenizer", config.model.tokenizer)
    # The shipped base counts by its content too: another version of it is another model.
    model = _outside("model.path", str(BASE_DIR) if config.model.path == SANDBOX else config.model.path) | tokenizer
    stages: list[Stage] = []
    start: tuple[str, ...] = ()
    if config.model.random_init is not None:
        start = ("base",)
        stages.append(Stage("base", base.run, (), settings("model"), model, distributed=False))
    data_settings = settings("data", "model", max_prompt_tokens=data.max_prompt_tokens(config), stages=training)
    data_reads = model | _outside("data.path", config.data.path)
    stages.append(Stage("data", data.run, start, data_settings, data_reads, distributed=False))
    for position, name in enumerate(training):
        before = (*start, "data", *training[:position])
        work = {"sft": sft.run, "dpo": dpo.run}[name]
        trained = settings("model", "trainer", "deepspeed", name)
        stages.append(Stage(name, work, before, trained, tokenizer if position else model, trains=True))
    if config.evaluation is not None:
        reads = model | _outside("evaluation.path", config.evaluation.path) | _outside("judge.path", config.judge.path)
        evaluated = settings("method", "model", "generation", "judge", "evaluation")
        stages.append(Stage("evaluate", evaluate.run, (*start, *training), evaluated, reads))
    return stages


def stage_named(config: RunConfig, name: str) -> Stage:
    """A stage of the run, or the one that examines the machine and belongs to no chain."""
    if name == DOCTOR:
        return Stage(DOCTOR, examination.run, after=(), settings={}, reads={})
    return next(stage for stage in chain(config) if stage.name == name)


def _outside(key: str, path: str | None) -> dict[str, str]:
    """A path that the run reads, expanded; hub names stay as they are."""
    if path is None:
        return {}
    return {key: str(Path(path).expanduser()) if looks_local(path) else path}
