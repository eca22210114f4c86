"""Stage `doctor`: gather every rank's facts, check them all, and leave the findings in `report.json`."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from pathlib import Path

from trainer.config.stage import Stage
from trainer.doctor import checks
from trainer.doctor.collectives import measure
from trainer.doctor.facts import facts_of_this_rank, scratch_facts
from trainer.doctor.preflight import DOCTOR, leave_token, read_token, remove_token
from trainer.doctor.present import missing, offline, wanted
from trainer.doctor.rendezvous import meet
from trainer.pipeline.context import StageContext
from trainer.record import git_commit, write_json
from trainer.tracking.server import has_key, server_url, why_unreachable

REPORT = "report.json"
DOCTOR_STAGE = Stage(DOCTOR, "trainer.doctor.examination:run")  # belongs to no chain


def run(context: StageContext) -> list[Path]:
    joined = meet(context)
    measured = measure(context)
    token = leave_token(context)
    context.barrier()  # what rank 0 wrote is there
    now = time.time()
    config, mine = context.config, facts_of_this_rank(context)
    mine = replace(mine, versions=mine.versions | {"commit": git_commit()})
    scratch = scratch_facts(config.launcher.scratch_directory)
    gathered = context.gather((mine, now, token, read_token(context), scratch, missing(config)))
    remove_token(context)
    if not context.is_main:
        return []
    facts = [fact for fact, *_ in gathered]
    seen = [read == gathered[0][2] for _, _, _, read, _, _ in gathered]
    directory = str(context.run_dir.parent)
    online = config.tracking.mode == "online"
    url = server_url() if online else ""
    findings = [
        checks.world(facts, config.launcher.world_size(context.stage.name)),
        checks.versions(facts),
        checks.devices(facts, bool(config.launcher.wants_gpus())),
        checks.threads(facts),
        checks.allocator(facts),
        _rendezvous(context, joined),
        checks.all_reduce(measured),
        checks.writable(facts, directory),
        checks.shared(facts, seen, directory),
        checks.space(facts, directory),
        checks.scratch({fact.host: found for fact, _, _, _, found, _ in gathered if found is not None}),
        checks.caches({fact.host: lacking for fact, *_, lacking in gathered}, list(wanted(config).values()), offline()),
        checks.tracking(config.tracking.mode, url, why_unreachable(url) if online else None, has_key(url) if online else False),
        checks.clocks(facts, [moment for _, moment, *_ in gathered]),
        checks.open_files(facts),
    ]
    report = context.stage_dir / REPORT
    write_json(report, [asdict(finding) for finding in findings])
    return [report]


def _rendezvous(context: StageContext, joined: float) -> checks.Finding:
    if context.world_size == 1:
        return checks.Finding("rendezvous", "one rank: nobody to meet")
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    return checks.Finding("rendezvous", f"{joined:.2f} s at {place}")
