"""What every distributed stage checks before it starts to work, in the rank processes themselves: well under a second."""

from __future__ import annotations

import uuid

from trainer.doctor import checks
from trainer.doctor.collectives import backend, timed_sum
from trainer.doctor.facts import RankFacts, facts_of_this_rank
from trainer.doctor.rendezvous import meet
from trainer.errors import ConfigError
from trainer.pipeline.context import StageContext

DOCTOR = "doctor"  # the stage that checks everything and reports all faults; see examination.py
_TOKEN = "seen-by-all"


def preflight(context: StageContext) -> None:
    """Meet the other ranks, compare notes, and say on rank 0 in one line what the stage runs on.

    Raises:
        StageFailed: not all ranks came (see `meet`).
        ConfigError: on every rank alike, with every fault found.
    """
    if context.stage.name == DOCTOR:
        return
    meet(context)
    token = leave_token(context)
    context.barrier()  # what rank 0 wrote is there
    right, latency = True, None
    if context.world_size > 1:
        timed_sum(context, 1)  # makes the connections
        right, latency = timed_sum(context, 1)
    gathered = context.gather((facts_of_this_rank(context), token, read_token(context), right))
    remove_token(context)
    facts = [fact for fact, *_ in gathered]
    seen = [read == gathered[0][1] for _, _, read, _ in gathered]
    wrong = [fact.rank for fact, *_, right in gathered if not right]
    findings = _findings(context, facts, seen, wrong)
    if faults := [f"{f.subject}: {f.fact}; {f.fix}." for f in findings if f.is_fault]:
        raise ConfigError(faults)
    if context.is_main:
        for finding in findings:
            if finding.fix is not None:
                print(f"{context.stage.name}: {finding.subject}: {finding.fact}; {finding.fix}", flush=True)
        print(_line(context, facts, latency), flush=True)


def leave_token(context: StageContext) -> str | None:
    """Rank 0 writes a word that no rank can guess. None where it cannot, and elsewhere."""
    if not context.is_main:
        return None
    token = uuid.uuid4().hex
    try:
        (context.stage_dir / _TOKEN).write_text(token)
    except OSError:
        return None  # the check of who can write says why
    return token


def read_token(context: StageContext) -> str | None:
    try:
        return (context.stage_dir / _TOKEN).read_text()
    except OSError:
        return None


def remove_token(context: StageContext) -> None:
    if context.is_main:
        (context.stage_dir / _TOKEN).unlink(missing_ok=True)


def _findings(context: StageContext, facts: list[RankFacts], seen: list[bool], wrong: list[int]) -> list[checks.Finding]:
    directory = str(context.run_dir)
    unwritable = checks.writable(facts, directory)
    return [
        *([checks.wrong_sum(wrong, backend())] if wrong else []),
        checks.world(facts, context.config.launcher.world_size(context.stage.name)),
        checks.versions(facts),
        checks.devices(facts, bool(context.config.launcher.wants_gpus(context.stage.name))),
        unwritable,
        *([] if unwritable.is_fault else [checks.shared(facts, seen, directory)]),
        checks.space(facts, directory, enough=1),
        checks.threads(facts),
    ]


def _line(context: StageContext, facts: list[RankFacts], latency: float | None) -> str:
    nodes = len({fact.host for fact in facts})
    parts = [
        context.stage.name,
        f"{len(facts)} rank{'s' if len(facts) > 1 else ''} on {nodes} node{'s' if nodes > 1 else ''}",
        f"torch {facts[0].versions['torch']}",
        facts[0].device,
        *([] if latency is None else [backend(), f"all-reduce {latency * 1e3:.1f} ms"]),
        f"{min(fact.free for fact in facts) / checks.GIB:.0f} GiB free",
    ]
    return " · ".join(parts)
